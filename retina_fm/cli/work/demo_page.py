"""The page that the demo writes: one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.layers import Layer, layered
from retina_fm._io.pages import picture_url, render
from retina_fm.cli.work.demo_panels import Eye, FewShots, Recall, Similar
from retina_fm.cli.work.demo_photos import Photos
from retina_fm.pictures import read_picture

_THUMB = 320
_LESION_COLOURS = {
    "haemorrhage": "#ff453a",
    "hard_exudate": "#ffd60a",
    "microaneurysm": "#ff8ad8",
    "cotton_wool_spot": "#f2f2f7",
    "drusen": "#30d158",
    "scar": "#bf5af2",
}
_VESSELS = "#3fb6ff"
_SIDE = 200
"""Of the plot of rates, in its own units."""


@dataclass(frozen=True)
class Results:
    """What the page shows.

    Attributes:
        model: its name.
        photos: all of them.
        encoded: how many could be read.
        skipped: photos that could not be read, and why.
        eyes: that are shown with layers.
        pending: whether angiograms are still to come.
        similar: photos and their nearest, or None where there is one photo.
        few: a head of few labels, or why there is none.
        code: the lines under each panel, by its name.
        limits: of this model, in sentences.
    """

    model: str
    photos: Photos
    encoded: int
    skipped: list[tuple[str, str]]
    eyes: list[Eye]
    pending: bool
    similar: Similar | None
    few: FewShots | str
    code: dict[str, str] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)


def demo_page(results: Results) -> str:
    """The page as HTML."""
    frames = any(eye.frames is not None for eye in results.eyes)
    return render(
        "demo.html",
        title="retina_fm: a first look",
        model=results.model,
        about=_about(results),
        drawn=results.photos.drawn,
        random=results.model == "fundus2video-random",
        skipped=[(Path(path).name, reason) for path, reason in results.skipped[:3]],
        skipped_count=len(results.skipped),
        eyes=[_eye(eye, _truth(eye.path, results.photos)) for eye in results.eyes],
        frames=frames,
        pending=results.pending and not frames,
        similar=None if results.similar is None else _similar(results.similar),
        few=results.few if isinstance(results.few, str) else _few(results.few),
        code=results.code,
        limits=results.limits,
    )


def _about(results: Results) -> str:
    count = results.encoded
    if results.photos.drawn:
        patients = len(set(results.photos.values("patient_id")))
        return f"{count} drawn photos of {patients} patients: both eyes, one of them by two cameras"
    known = len({value for value in results.photos.values("patient_id") if value})
    return f"{count} photo{'s' * (count != 1)}" + (f" of {known} patients" if known else "")


def _truth(path: str, photos: Photos) -> str:
    """What is known of the lesions in a drawn photo."""
    if not photos.drawn:
        return ""
    healthy = photos.rows[photos.paths.index(path)]["label"] == "healthy"
    return "Drawn without lesions: what is marked as one is a mistake." if healthy else "Drawn with lesions."


def _eye(eye: Eye, truth: str) -> dict[str, Any]:
    layers: dict[str, Layer] = {}
    if eye.vessels is not None:
        layers["Vessels"] = Layer(eye.vessels, _VESSELS, shown=True)
    nothing = []
    for name, mask in eye.lesions.items():
        words = name.replace("_", " ").capitalize() + "s" * (name != "drusen")
        if not mask.any():
            nothing.append(words.lower())
            continue
        doubtful = name in eye.doubts
        note = "not to be relied on" * doubtful
        layers[words] = Layer(_grown(mask), _LESION_COLOURS[name], not doubtful, note, doubtful)
    piece: Markup = layered(
        eye.view,
        layers,
        eye.frames,
        alt=f"Retina of {Path(eye.path).name}",
        frames_name="Angiogram, generated",
        frames_note="synthetic; no dye was given",
    )
    return {"name": Path(eye.path).name, "piece": piece, "nothing": nothing, "truth": truth}


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask one pixel wider all around: the smallest lesions are two pixels across, too small to be seen."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _similar(similar: Similar) -> dict[str, Any]:
    rows = []
    for hits, fellow in zip(similar.hits, similar.fellow_ranks, strict=True):
        query = hits.metadata
        row = [_figure(hits.photo, hits.name, "query", "asked")]
        for hit in hits:
            same_eye = bool(query.get("eye_id")) and query.get("eye_id") == hit.metadata.get("eye_id")
            same = bool(query.get("patient_id")) and query.get("patient_id") == hit.metadata.get("patient_id")
            what = "same eye" if same_eye else "same patient" if same else "another patient" if query else ""
            note = f"{what}, " * bool(what) + f"{hit.score:.2f}"
            row.append(_figure(hit.path, Path(hit.path).name, "same" if same_eye or same else "", note))
        if fellow is not None:
            note = f"the patient's other eye: number {fellow[1]} by embedding"
            row.append(_figure(fellow[0], Path(fellow[0]).name, "fellow", note))
        rows.append(row)
    return {
        "space": similar.space,
        "rows": rows,
        "recalls": [_said(recall) for recall in similar.recalls],
        "fellows": any(fellow is not None for fellow in similar.fellow_ranks),
    }


def _said(recall: Recall) -> dict[str, str]:
    return {
        "sought": recall.sought,
        "by": "pattern of vessels" if recall.space == "signature" else
        "embedding" if recall.space == "embedding" else "both together",
        "k": str(recall.k),
        "mean": f"{recall.mean:.2f}",
        "chance": f"{recall.chance:.2f}",
        "queries": str(recall.queries),
    }  # fmt: skip


def _few(few: FewShots) -> dict[str, Any]:
    return {
        "column": few.column,
        "negative": few.classes[0],
        "positive": few.classes[1],
        "others": few.others,
        "patients": few.patients,
        "shots": few.shots,
        "tested": few.tested,
        "draws": len(few.aurocs),
        "mean": f"{np.mean(few.aurocs):.2f}",
        "least": f"{min(few.aurocs):.2f}",
        "most": f"{max(few.aurocs):.2f}",
        "side": _SIDE,
        "lines": [
            " ".join(f"{x * _SIDE:.1f},{(1 - y) * _SIDE:.1f}" for x, y in zip(*curve, strict=True))
            for curve in few.curves
        ],
    }


def _figure(photo: Any, heading: str, kind: str, note: str) -> tuple[str, str, str, tuple[str, ...]]:
    """Address of the picture, heading, kind, and lines below it."""
    return picture_url(Image.fromarray(read_picture(photo)), _THUMB), Path(heading).name, kind, (note,)
