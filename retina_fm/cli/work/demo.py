"""The first minute: photos that the project draws, or the user's own, to a page of what the model does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retina_fm._io.files import write_bytes
from retina_fm._io.folders import own_folder
from retina_fm.cli.work.demo_code import code_of_eye, code_of_few, code_of_similar
from retina_fm.cli.work.demo_page import Results, demo_page
from retina_fm.cli.work.demo_panels import (
    Eye,
    FewShots,
    as_held,
    find_similar,
    learn_from_few,
    look_at,
    make_index,
    with_angiogram,
)
from retina_fm.cli.work.demo_photos import Photos, draw_photos, named_photos
from retina_fm.errors import PictureError, RetinaError, WeightsNotFoundError
from retina_fm.models import read_config, resolve

PREFERRED = ("fundus2video-half", "fundus2video")
"""Trained weights for the demonstration, the best first; ``fundus2video-random`` where none are there."""
EYES = 2
"""Shown with layers and an angiogram: some seconds each."""
_ROWS = 4
_FIRST = ("patient02_right_1.png", "patient01_left_1.png")  # one with lesions, one without


@dataclass(frozen=True)
class DemoReport:
    """What the demo made.

    Attributes:
        page: self-contained HTML.
        table: the embeddings.
        photos: encoded.
        model: used.
        same_eye: share of photos whose nearest by the pattern of vessels is the same eye, or None where no
            eye is known to be there twice.
        fellow_eyes: share whose nearest eye of the other side, by embedding, is the same patient's, or None
            where that is not known.
        auroc: mean over draws of a head that learnt from few labels, or None without labels.
        first_page: seconds from the start until the page could be opened.
        seconds: until all was done.
    """

    page: Path
    table: Path
    photos: int
    model: str
    same_eye: float | None
    fellow_eyes: float | None
    auroc: float | None
    first_page: float
    seconds: float


def choose_model(name: str | None) -> str:
    """The model asked for; else trained weights where they are, else the random baseline."""
    if name is not None:
        return name
    for preferred in PREFERRED:
        try:
            resolve(preferred)
        except WeightsNotFoundError:
            continue
        return preferred
    return "fundus2video-random"


def run_demo(
    photos: Any,
    out: Path,
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    column: str = "label",
    model: str | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    started: float | None = None,
) -> DemoReport:
    """Write a page with maps of some eyes, similar eyes, and a head that learnt from few labels.

    The page is there, and complete, before the angiograms: these take longest and are added to it.

    Args:
        photos: any collection that ``encode`` takes, or None to draw some.
        out: folder for the page, the table and the drawn photos.
        columns: of a table, a value a photo.
        column: of the labels in it.
        model: a registered name; see :func:`choose_model`.
        progress: see ``encode``.
        say: told each stage as it begins.
        started: ``time.monotonic()`` when the command was given; now without it.

    Raises:
        PictureError: no photo could be read.
        OutputError: ``out`` holds something else, or cannot be written.
    """
    began = time.monotonic() if started is None else started

    def stage(text: str) -> None:
        if say is not None:
            say(f"{time.monotonic() - began:5.1f} s  {text}")

    own_folder(out, "a demonstration", "index.html", "embeddings.parquet")
    name = choose_model(model)
    if photos is None:
        stage("drawing patients, both eyes, one of them photographed twice")
        given = draw_photos(out / "photos")
    else:
        given = named_photos(photos, columns or {}, column)
    stage(f"encoding {len(given.paths)} photos with {name}")
    index = make_index(given, name, progress=progress)
    skipped = list(index.report.skipped)
    if not len(index):
        raise PictureError(f"None of {len(given.paths)} photos could be read; the first: {skipped[0][1]}")
    table = index.to_parquet(out / "embeddings.parquet")
    given = as_held(given, index)
    there = set(index.paths)
    readable = [path for path in given.paths if path in there]
    first = [path for path in readable if Path(path).name in _FIRST] if given.drawn else []
    stage("reading vessels and lesions")
    chosen = sorted(first, key=lambda path: _FIRST.index(Path(path).name)) or readable
    eyes = look_at(chosen[:EYES], name)
    stage("looking for the same eyes, learning from few labels")
    shown = _shown(readable, given)[:_ROWS]
    similar = find_similar(index, shown) if len(readable) > 1 else None
    few = learn_from_few(index, given.column)
    generates, dtype = eyes[0].vessels is not None, _fastest()  # both are read off the generator
    results = Results(
        model=name,
        photos=given,
        encoded=len(index),
        skipped=skipped,
        eyes=eyes,
        pending=generates,
        similar=similar,
        few=few,
        code={
            "maps": code_of_eye(
                _written(eyes[0].path, out, given),
                name,
                maps=bool(eyes[0].lesions),
                frames=generates,
                dtype=dtype,
            ),
            "similar": code_of_similar(given, _written(shown[0], out, given), name, similar)
            if similar is not None
            else "",
            "few": code_of_few(few) if isinstance(few, FewShots) else "",
        },
        limits=_limits(name, given, eyes, generates),
    )
    page = out / "index.html"
    write_bytes(page, demo_page(results).encode())
    first_page = time.monotonic() - began
    if generates:
        stage(f"the page is ready: {page}; adding angiograms")
        eyes = [with_angiogram(eye, name, _dtype(dtype)) for eye in eyes]
        write_bytes(page, demo_page(replace(results, eyes=eyes, pending=False)).encode())
    same, fellow = (
        next((one.mean for one in (similar.recalls if similar else ()) if word in one.sought), None)
        for word in ("same eye", "other eye")
    )
    auroc = sum(few.aurocs) / len(few.aurocs) if isinstance(few, FewShots) else None
    return DemoReport(
        page, table, len(index), name, same, fellow, auroc, first_page, time.monotonic() - began
    )


def _shown(readable: list[str], photos: Photos) -> list[str]:
    """Photos that are asked about on the page; of drawn ones the first of each eye that has a second."""
    if not photos.drawn:
        return readable
    return [path for path in readable if path.endswith("_1.png") and f"{path[:-5]}2.png" in readable]


def _written(path: str, out: Path, photos: Photos) -> str:
    """A photo's path as the page writes it: that of a drawn one from the page's folder."""
    return Path(os.path.relpath(path, out)).as_posix() if photos.drawn else path


def _fastest() -> str | None:
    """The number type that is fastest here, as ``torch`` calls it; None where it is the weights' own."""
    import torch

    from retina_fm.encoding.precision import fastest_precision

    fastest = fastest_precision(torch.device("cpu")).dtype
    return None if fastest == torch.float32 else str(fastest).removeprefix("torch.")


def _dtype(name: str | None) -> Any:
    import torch

    return None if name is None else getattr(torch, name)


def _limits(model: str, photos: Photos, eyes: Sequence[Eye], generates: bool) -> list[str]:
    """What figures and pictures of the page are not, in sentences."""
    if photos.drawn:
        said = [
            "These photos are drawn. The model learnt from drawings by the same hand, too, so it does better "
            "here than on photographs.",
            "The second photo of an eye is its first drawing turned, nearer, and in other colours. A real "
            "second visit differs in more.",
        ]
    else:
        said = [
            f"{len(photos.paths)} photos are few: each figure would change with others. Photos that the "
            "model was trained on flatter it; sources.csv beside its weights lists them."
        ]
    said.append(
        "The other eye of a patient has vessels of its own: the pattern of vessels does not find it, and "
        "embeddings find it sometimes."
    )
    lesions = eyes[0].lesions if eyes else {}
    doubtful = [name.replace("_", " ") for name in lesions if name in eyes[0].doubts]
    if doubtful:
        said.append(
            f"Do not rely on these maps: {', '.join(doubtful)}. They failed on labelled photographs, or were "
            "never measured there. What is not marked may still be there."
        )
    if generates:
        said.append(
            "An angiogram here is what the model expects of a simulated one. Leakage that the photo does not "
            "show cannot be in it."
        )
    return [
        *said,
        "A head of few labels ranks photos; its probabilities are not calibrated. Remember its range over "
        "the draws, not its mean.",
        "A pattern of vessels recognises a person. None is stored: embeddings.parquet holds embeddings "
        "alone.",
        _card(model),
    ]


def _card(model: str) -> str:
    try:
        licence = read_config(resolve(model)).card.licence
    except RetinaError:
        return f"Figures of {model} on public photographs stand in its card."
    return (
        f"Figures of {model} ({licence}) on public photographs: they stand in its card, README.md beside the "
        "weights."
    )
