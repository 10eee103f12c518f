"""Recall@K of an index: :func:`retina_fm.metrics.recall.recall_hits` with exact search and intervals.

Both readings of the measure are reported under their own names, ``recall@k`` (any hit, as in *Fundus2Video*)
and ``share@k`` (share found). A query whose patient has no other picture in the gallery is left out of the
mean, stays in the gallery for the others, and is counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError
from retina_fm.indexes.exact import nearest_rows
from retina_fm.indexes.space import Space, check_embeddings
from retina_fm.indexes.spaces import eyes_first
from retina_fm.metrics.intervals import Interval, patient_bootstrap
from retina_fm.metrics.recall import KS, Mask, Positions, patient_codes, recall_hits
from retina_fm.models.whitening import Whitening

_QUERIES = 256


class Eyes(NamedTuple):
    """What tells pictures of the same eye, which come before all others.

    Attributes:
        points: of signatures, ``(N, K)``.
        least: cosine from which two pictures count as one eye's.
    """

    points: NDArray[np.float32]
    least: float


@dataclass(frozen=True)
class RecallReport:
    """Recall in both readings.

    Attributes:
        any_hit: recall@K as in the paper, by K.
        share_found: share of the patient's other pictures found, by K.
        average: mean of ``any_hit`` over the K's, with its own interval.
        average_share: the same of ``share_found``.
        queries: pictures that were asked about.
        without_partner: pictures left out, since their patient has no other picture in the gallery.
        gallery: pictures that could be found.
        patients: among the queries; the bootstrap draws them.
    """

    any_hit: Mapping[int, Interval]
    share_found: Mapping[int, Interval]
    average: Interval
    average_share: Interval
    queries: int
    without_partner: int
    gallery: int
    patients: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``recall@k``, ``recall@mean``, ``share@k``, ``share@mean`` and counts."""
        values: dict[str, Any] = {f"recall@{k}": v.as_dict() for k, v in self.any_hit.items()}
        values["recall@mean"] = self.average.as_dict()
        values.update({f"share@{k}": v.as_dict() for k, v in self.share_found.items()})
        values["share@mean"] = self.average_share.as_dict()
        for name in ("queries", "without_partner", "gallery", "patients"):
            values[name] = getattr(self, name)
        return values


def recall_at_k(
    embeddings: NDArray[Any],
    groups: Sequence[Any],
    k: Sequence[int] = KS,
    *,
    queries: Mask | None = None,
    gallery: Mask | None = None,
    metric: str = "cosine",
    whitening: Whitening | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> RecallReport:
    """Recall@K of embeddings by exact search, each picture in turn as the query.

    Args:
        embeddings: ``(N, D)``.
        groups: N patient ids; None, NaN and empty strings mean unknown (such pictures are only distractors).
        k: numbers of neighbours.
        queries: ``(N,)`` pictures to ask about; all without it.
        gallery: ``(N,)`` pictures that may be found; all without it.
        metric: ``cosine`` or ``dot``.
        whitening: applied first, with ``cosine``.
        repeats: bootstrap samples of patients.
        seed: of the bootstrap.

    Returns:
        Both readings with intervals.

    Raises:
        ConfigError: lengths differ, K is not positive, NaN, or no query has a partner.
    """
    points = Space(metric, whitening).points(check_embeddings(embeddings))
    return recall_of_points(points, groups, k, queries=queries, gallery=gallery, repeats=repeats, seed=seed)


def recall_by_pair(
    embeddings: NDArray[Any],
    groups: Sequence[Any],
    modality: Sequence[Any],
    k: Sequence[int] = KS,
    *,
    metric: str = "cosine",
    whitening: Whitening | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> dict[tuple[str, str], RecallReport]:
    """Recall@K for every ordered pair of modalities: queries of the first, gallery of the second.

    Pairs in which no query has a partner are left out.

    Args:
        embeddings: ``(N, D)``.
        groups: N patient ids.
        modality: N names, such as ``CF``, ``FFA``, ``OCT``.
        k: numbers of neighbours.
        metric: see :func:`recall_at_k`.
        whitening: see :func:`recall_at_k`.
        repeats: see :func:`recall_at_k`.
        seed: see :func:`recall_at_k`.
    """
    points = Space(metric, whitening).points(check_embeddings(embeddings))
    return recall_of_pairs(points, groups, modality, k, repeats=repeats, seed=seed)


def recall_of_pairs(
    points: NDArray[np.float32],
    groups: Sequence[Any],
    modality: Sequence[Any],
    k: Sequence[int] = KS,
    *,
    eyes: Eyes | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> dict[tuple[str, str], RecallReport]:
    """:func:`recall_by_pair` of points that are whitened and scaled already."""
    names = np.array([str(value) for value in modality])
    if len(names) != len(points):
        raise ConfigError(f"{len(names)} modalities for {len(points)} embeddings; one each is needed.")
    kinds = sorted(set(names.tolist()))
    reports = {}
    for pair in itertools.product(kinds, kinds):
        asked, answered = (names == kind for kind in pair)
        found = _report(points, groups, k, asked, answered, eyes, repeats, seed)
        if found is not None:
            reports[pair] = found
    return reports


def recall_of_points(
    points: NDArray[np.float32],
    groups: Sequence[Any],
    k: Sequence[int] = KS,
    *,
    queries: Mask | None = None,
    gallery: Mask | None = None,
    eyes: Eyes | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> RecallReport:
    """:func:`recall_at_k` of points that are whitened and scaled already, pictures of the same eye first."""
    report = _report(points, groups, k, queries, gallery, eyes, repeats, seed)
    if report is None:
        raise ConfigError(
            "No query has another picture of its patient in the gallery, so recall means nothing. "
            "Check the patient ids."
        )
    return report


def _report(
    points: NDArray[np.float32],
    groups: Sequence[Any],
    k: Sequence[int],
    queries: Mask | None,
    gallery: Mask | None,
    eyes: Eyes | None,
    repeats: int,
    seed: int,
) -> RecallReport | None:
    """None where no query has a partner."""
    wanted = sorted({int(value) for value in k})
    groups = list(groups)
    if len(groups) != len(points):
        raise ConfigError(f"{len(groups)} patient ids for {len(points)} embeddings; one each is needed.")
    queries, gallery = (None if mask is None else np.asarray(mask) for mask in (queries, gallery))

    compared = [points] if eyes is None else [points, eyes.points]
    bounds = [float(np.sqrt(np.square(one, dtype=np.float64).sum(1).max(initial=0))) for one in compared]

    def nearest(rows: Positions, depth: int) -> Positions:
        order = np.full((len(rows), depth), -1, np.int64)
        for start in range(0, len(rows), _QUERIES):
            some = rows[start : start + _QUERIES]
            found, *same = (
                nearest_rows(one[some], one, depth, allowed=gallery, excluded=some, longest=bound)
                for one, bound in zip(compared, bounds, strict=True)
            )
            if eyes is not None:
                found = eyes_first(same[0], found, eyes.least)
            order[start : start + len(some)] = found.positions
        return order

    found = recall_hits(nearest, groups, wanted, queries=queries, gallery=gallery)
    if not len(found.queries):
        return None
    codes = patient_codes(groups)
    patients = codes[found.queries]
    any_hit, share = (
        patient_bootstrap(np.column_stack([values, values.mean(1)]), patients, repeats, seed)
        for values in (found.hits, found.found)
    )
    asked = codes >= 0 if queries is None else queries & (codes >= 0)
    return RecallReport(
        any_hit=dict(zip(wanted, any_hit, strict=False)),
        share_found=dict(zip(wanted, share, strict=False)),
        average=any_hit[-1],
        average_share=share[-1],
        queries=len(found.queries),
        without_partner=int(asked.sum()) - len(found.queries),
        gallery=len(points) if gallery is None else int(gallery.sum()),
        patients=len(np.unique(patients)),
    )
