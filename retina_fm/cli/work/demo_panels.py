"""What the demonstration finds: maps of some eyes, similar eyes with Recall, a head that saw few labels."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.persons import is_blank, persons
from retina_fm.cli.work.demo_photos import LABELS, Photos
from retina_fm.errors import RetinaError
from retina_fm.indexes.metadata import PATIENT, agree
from retina_fm.metrics.recall import patient_codes
from retina_fm.pictures import Transform
from retina_fm.pictures.marks import marked
from retina_fm.vocabulary import LESION_TYPES

if TYPE_CHECKING:
    import torch

    from retina_fm.indexes import Hits, ImageIndex

NEAREST = 3
DRAWS = 20
"""Draws of examples; one draw alone says little of a head that learns from so few."""
_MOST_SHOTS = 4
_FEWEST_PATIENTS = 3
_KNOWN = (PATIENT, "eye", "eye_id")
_MOST_ASKED = 200
"""Photos that a Recall asks about: each is compared with all others a hundred times, turned and zoomed."""


@dataclass(frozen=True)
class Eye:
    """One eye, all in the crop that the model sees.

    Attributes:
        path: of the photo.
        view: ``uint8 (S, S, 3)``.
        vessels: float ``(S, S)`` in [0, 1], or None where the model maps none.
        lesions: bool ``(S, S)`` by type: where the model marks it.
        doubts: by type, why the map is not to be relied on.
        frames: generated, ``uint8 (12, S, S)``, or None.
    """

    path: str
    view: NDArray[np.uint8]
    vessels: NDArray[np.float32] | None
    lesions: dict[str, NDArray[np.bool_]]
    doubts: dict[str, str]
    frames: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Recall:
    """How often a partner is the nearest.

    Attributes:
        sought: in words.
        space: that was compared.
        k: neighbours.
        mean: share of the queries.
        chance: the same share for a random order.
        queries: photos that were asked about; each has a partner.
    """

    sought: str
    space: str
    k: int
    mean: float
    chance: float
    queries: int


@dataclass(frozen=True)
class Similar:
    """Photos and their nearest.

    Attributes:
        space: that was compared.
        hits: of each photo shown.
        fellow_ranks: of each, the rank of the patient's other eye by embedding, or None.
        recalls: strongest question first.
    """

    space: str
    hits: list[Hits]
    fellow_ranks: list[tuple[str, int] | None]
    recalls: list[Recall]


@dataclass(frozen=True)
class FewShots:
    """A head that saw few labels, over several draws of them.

    Attributes:
        column: of the labels.
        classes: the two told apart, the positive one last.
        others: how many photos are left out: another label, none, or a patient that is not known.
        patients: whether patients are known.
        shots: examples a class.
        tested: photos judged in the first draw.
        aurocs: a value a draw.
        curves: false and true positive rates of each draw.
    """

    column: str
    classes: tuple[str, str]
    others: int
    patients: bool
    shots: int
    tested: int
    aurocs: list[float]
    curves: list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def make_index(photos: Photos, model: str, *, progress: bool | None = None) -> ImageIndex:
    """Embeddings and, where the model reads them, signatures of the photos, in memory."""
    import retina_fm

    known: Any = None
    if photos.drawn:
        known = Path(photos.paths[0]).parent / LABELS
    elif photos.rows:
        columns = [name for name in dict.fromkeys([*_KNOWN, photos.column]) if photos.knows(name)]
        known = (
            [{name: row.get(name) or None for name in columns} for row in photos.rows] if columns else None
        )
    return retina_fm.index(photos.paths, model, metadata=known, on_error="skip", progress=progress)


def as_held(photos: Photos, index: ImageIndex) -> Photos:
    """The photos by the paths that the index calls them by, which are relative where they can be."""
    held = {os.path.realpath(path): path for path in index.paths}
    return replace(photos, paths=[held.get(os.path.realpath(path), path) for path in photos.paths])


def column_of(index: ImageIndex, name: str) -> NDArray[Any]:
    """A column of the metadata in the order of the photos, empty texts where it says nothing."""
    if name not in index.metadata.column_names:
        return np.full(len(index), "", object)
    return np.array(["" if is_blank(v) else str(v) for v in index.metadata[name].to_pylist()], object)


def look_at(paths: Sequence[str], model: str) -> list[Eye]:
    """Vessels and lesions of some photos, without angiograms."""
    from retina_fm.adapters import lesion_maps, vessel_maps
    from retina_fm.models import read_config, resolve
    from retina_fm.models.reliability import Reliability, fault_of, threshold_in

    stated: Mapping[str, Reliability] = {}
    transform = Transform()
    try:
        config = read_config(resolve(model))
        stated, transform = config.reliability, config.transform
    except RetinaError:  # peers without a folder of weights map nothing, and are shown in the crop of ours
        pass
    found = [transform.view(path) for path in paths]
    try:
        vessels: list[Any] = list(vessel_maps(list(paths), model))
    except RetinaError:  # no generator
        vessels = [None] * len(paths)
    try:
        lesions: list[dict[str, Any]] = list(lesion_maps(list(paths), model))
    except RetinaError:  # no lesion heads
        lesions = [{}] * len(paths)
    doubts = {name: doubt for name in LESION_TYPES if (doubt := fault_of(stated, name)) is not None}
    eyes = []
    for path, (view, geometry), vessel, lesion in zip(paths, found, vessels, lesions, strict=True):
        eyes.append(
            Eye(
                path=path,
                view=view,
                vessels=None if vessel is None else geometry.view_of(vessel, "bilinear"),
                lesions={
                    name: geometry.view_of(layer, "bilinear") >= threshold_in(stated, name)
                    for name, layer in lesion.items()
                },
                doubts=doubts,
            )
        )
    return eyes


def with_angiogram(eye: Eye, model: str, dtype: torch.dtype) -> Eye:
    """The same eye with its synthetic angiogram; marked in its pixels, since the crop may cut the mark off.

    Raises:
        ConfigError: the model has no generator.
    """
    import retina_fm
    from retina_fm.models import read_config, resolve

    video = retina_fm.generate(eye.path, model, dtype=dtype, mark=False)
    _, geometry = read_config(resolve(model)).transform.view(eye.path)
    frames = [
        geometry.view_of(frame, "bilinear").round().clip(0, 255).astype(np.uint8) for frame in video.frames
    ]
    return replace(eye, frames=np.stack([marked(frame) for frame in frames]))


def find_similar(index: ImageIndex, shown: Sequence[str]) -> Similar:
    """Nearest others of some photos, and how often what belongs together is found."""
    eyes, patients, sides = (column_of(index, name) for name in ("eye_id", "patient_id", "eye"))
    signs = index.signatures is not None
    space = "retrieval" if signs else "embedding"
    recalls = []
    if signs and _has_partners(eyes):
        space = "signature"
        recalls += _found(index, eyes, "eye_id", (1,), space, "the same eye on another photo")
    fellows = _fellow_recall(index, patients, sides)
    if not fellows and not recalls and _has_partners(patients):
        recalls += _found(index, patients, PATIENT, (1, 5), space, "a photo of the same patient")
    hits = index.search(list(shown), NEAREST, space=space) if len(index) > 1 else []
    return Similar(space, hits, _fellow_ranks(index, shown, patients, sides), [*recalls, *fellows])


def learn_from_few(index: ImageIndex, column: str, draws: int = DRAWS) -> FewShots | str:
    """A linear head that tells the two most frequent labels apart from a few examples of each.

    Returns:
        What came of it, or why there is nothing to show.
    """
    from sklearn.metrics import roc_curve

    from retina_fm.adapters import LinearClassifier, draw_examples
    from retina_fm.metrics.scores import auroc

    labels, patients = column_of(index, column), column_of(index, "patient_id")
    if not any(labels):
        return f"No labels: add --labels FILE with a column {column!r}, or name another with --column."
    unknown = np.array([person is None for person in persons(patients.tolist())])
    told = not unknown.all()
    if not told:
        patients = np.arange(len(index)).astype(str).astype(object)
        unknown[:] = False
    groups = {
        name: len(set(patients[(labels == name) & ~unknown]))
        for name in set(labels) - {""}
        if "|" not in name
    }
    counts = Counter(label for label in labels if label in groups)
    chosen = [name for name, _ in counts.most_common() if groups[name] >= _FEWEST_PATIENTS][:2]
    if len(chosen) < 2:
        return (
            f"Labels {column!r}: fewer than two of them have {_FEWEST_PATIENTS} patients or more, too few to "
            "learn from some and judge on others."
        )
    keep = np.isin(labels, chosen) & ~unknown
    labels, patients, embeddings = labels[keep], patients[keep], index.embeddings[keep]
    shots = min(_MOST_SHOTS, min(groups[name] for name in chosen) // 2)
    aurocs, curves, tested = [], [], 0
    for seed in range(draws):
        draw = draw_examples(labels, shots, seed=seed, groups=patients)
        truth = labels[draw.rest] == chosen[1]
        if truth.all() or not truth.any():
            continue
        head = LinearClassifier().fit(embeddings[draw.drawn], labels[draw.drawn])
        scores = head.predict_proba(embeddings[draw.rest])[:, list(head.classes_).index(chosen[1])]
        aurocs.append(float(auroc(truth, scores)))
        curves.append(roc_curve(truth, scores)[:2])
        tested = tested or len(truth)
    if not aurocs:
        return f"Labels {column!r}: no patient is left to judge on. More patients of each label are needed."
    classes = (chosen[0], chosen[1])
    return FewShots(column, classes, int((~keep).sum()), told, shots, tested, aurocs, curves)


def chance(
    groups: NDArray[Any],
    k: int,
    queries: NDArray[np.bool_] | None = None,
    gallery: NDArray[np.bool_] | None = None,
) -> float:
    """Recall@K of a random order: a partner is among K of the gallery, the query left out.

    Args:
        groups: ``(N,)``, empty where unknown.
        k: neighbours.
        queries: ``(N,)``; all without it.
        gallery: ``(N,)``; all without it.
    """
    codes = patient_codes(groups.tolist())
    asked = np.ones(len(codes), bool) if queries is None else queries
    offered = np.ones(len(codes), bool) if gallery is None else gallery
    shares = []
    for place in np.flatnonzero(asked & (codes >= 0)):
        others = offered.copy()
        others[place] = False
        partners, total = int((others & (codes == codes[place])).sum()), int(others.sum())
        if partners:
            shares.append(1 - math.comb(total - partners, min(k, total)) / math.comb(total, min(k, total)))
    return float(np.mean(shares))


def _has_partners(groups: NDArray[Any]) -> bool:
    return any(count > 1 for name, count in Counter(groups.tolist()).items() if name)


def _found(
    index: ImageIndex, groups: NDArray[Any], column: str, ks: tuple[int, ...], space: str, sought: str
) -> list[Recall]:
    """Recall of those that have a partner, by search as a user would search."""
    codes = patient_codes(groups.tolist())
    places = np.array([p for p in np.flatnonzero(codes >= 0) if (codes == codes[p]).sum() > 1][:_MOST_ASKED])
    paths = index.paths
    found = index.search([paths[place] for place in places], max(ks), space=space)
    right = np.array(
        [[agree(column, hits.metadata[column], hit.metadata[column]) for hit in hits] for hits in found]
    )
    asked = np.isin(np.arange(len(codes)), places)
    return [
        Recall(sought, space, k, float(right[:, :k].any(1).mean()), chance(groups, k, asked), len(places))
        for k in ks
    ]


def _fellow_recall(index: ImageIndex, patients: NDArray[Any], sides: NDArray[Any]) -> list[Recall]:
    """The other eye by embedding, right eyes among left ones and the reverse, as one figure a K."""
    known = (sides != "") & (patients != "")
    if len(set(sides[known])) != 2:
        return []
    recalls = []
    for k in (1, 5):
        reports = index.evaluate_pairs(patients.tolist(), (k,), modality=sides.tolist(), space="embedding")
        across = {pair: report for pair, report in reports.items() if pair[0] != pair[1] and all(pair)}
        queries = sum(report.queries for report in across.values())
        if not queries:
            return []
        mean = sum(report.any_hit[k].mean * report.queries for report in across.values()) / queries
        by_chance = [chance(patients, k, sides == one, sides == other) for one, other in across]
        sought = "the other eye of the same patient, among all other eyes of that side"
        recalls.append(Recall(sought, "embedding", k, float(mean), float(np.mean(by_chance)), queries))
    return recalls


def _fellow_ranks(
    index: ImageIndex, shown: Sequence[str], patients: NDArray[Any], sides: NDArray[Any]
) -> list[tuple[str, int] | None]:
    place = {path: number for number, path in enumerate(index.paths)}
    ranks: list[tuple[str, int] | None] = []
    for path, hits in zip(shown, index.search(list(shown), len(index)), strict=True):
        own = place.get(path)
        fellows = (
            []
            if own is None or not patients[own] or not sides[own]
            else [
                (hit.path, hit.rank)
                for hit in hits
                if patients[place[hit.path]] == patients[own]
                and sides[place[hit.path]] not in ("", sides[own])
            ]
        )
        ranks.append(fellows[0] if fellows else None)
    return ranks
