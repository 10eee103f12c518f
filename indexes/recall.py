"""Recall@K: is another picture of the same patient among the K nearest?

Two readings of the measure are in use, and both are reported under their own names:

* ``recall@k``: any hit. A query counts 1 when at least one of its K nearest shows the same patient, else 0.
  This is the definition in *Fundus2Video* (retrieval on AngioReport), whose "average recall" is the mean over
  K of 1, 5 and 10.
* ``share@k``: share found. Of the other pictures of the patient, how many are among the K nearest; with more
  pictures a patient than K it cannot reach 1.

The query itself is never among its own neighbours. A query whose patient has no other picture in the gallery
cannot be answered; it is left out of the mean, stays in the gallery for the others, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError
from retina_fm.indexes.exact import nearest_rows
from retina_fm.indexes.space import Space, check_embeddings
from retina_fm.metrics.recall import patient_codes
from retina_fm.models.whitening import Whitening

DEFAULT_K = (1, 5, 10)
_QUERIES = 256


@dataclass(frozen=True)
class Interval:
    """A mean with the 95 % interval of a bootstrap over patients."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Plain values for JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


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
    k: Sequence[int] = DEFAULT_K,
    *,
    queries: NDArray[np.bool_] | None = None,
    gallery: NDArray[np.bool_] | None = None,
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
    k: Sequence[int] = DEFAULT_K,
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
    k: Sequence[int] = DEFAULT_K,
    *,
    repeats: int = 2000,
    seed: int = 0,
) -> dict[tuple[str, str], RecallReport]:
    """:func:`recall_by_pair` of points that are whitened and scaled already."""
    names = np.array([str(value) for value in modality])
    if len(names) != len(points):
        raise ConfigError(f"{len(names)} modalities for {len(points)} embeddings; one each is needed.")
    codes = _codes(groups, len(points))
    reports = {}
    kinds = sorted(set(names.tolist()))
    for asked in kinds:
        for answered in kinds:
            chosen, among = names == asked, names == answered
            if _answerable(codes, chosen, among).any():
                reports[asked, answered] = recall_of_points(
                    points, groups, k, queries=chosen, gallery=among, repeats=repeats, seed=seed
                )
    return reports


def recall_of_points(
    points: NDArray[np.float32],
    groups: Sequence[Any],
    k: Sequence[int] = DEFAULT_K,
    *,
    queries: NDArray[np.bool_] | None = None,
    gallery: NDArray[np.bool_] | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> RecallReport:
    """:func:`recall_at_k` of points that are whitened and scaled already."""
    wanted = sorted({int(value) for value in k})
    if not wanted or wanted[0] < 1:
        raise ConfigError(f"k is {tuple(k)}; whole numbers from 1 are needed.")
    count = len(points)
    codes = _codes(groups, count)
    asked = _mask(queries, count, "queries") & (codes >= 0)
    among = _mask(gallery, count, "gallery")
    answerable = _answerable(codes, asked, among)
    rows = np.flatnonzero(answerable)
    if not len(rows):
        raise ConfigError(
            "No query has another picture of its patient in the gallery, so recall means nothing. "
            "Check the patient ids."
        )
    partners = np.bincount(codes[among & (codes >= 0)], minlength=codes.max() + 1)[codes] - among
    hits = np.zeros((len(rows), len(wanted)))
    shares = np.zeros_like(hits)
    longest = float(np.sqrt(np.square(points, dtype=np.float64).sum(1).max()))
    for start in range(0, len(rows), _QUERIES):
        some = rows[start : start + _QUERIES]
        found = nearest_rows(
            points[some], points, min(wanted[-1], count), allowed=among, excluded=some, longest=longest
        ).positions
        same = (found >= 0) & (codes[found] == codes[some][:, None])
        for column, depth in enumerate(wanted):
            number = same[:, :depth].sum(axis=1)
            hits[start : start + len(some), column] = number > 0
            shares[start : start + len(some), column] = number / partners[some]
    patients = codes[rows]
    any_hit = patient_bootstrap(np.column_stack([hits, hits.mean(1)]), patients, repeats, seed)
    share = patient_bootstrap(np.column_stack([shares, shares.mean(1)]), patients, repeats, seed)
    return RecallReport(
        any_hit=dict(zip(wanted, any_hit, strict=False)),
        share_found=dict(zip(wanted, share, strict=False)),
        average=any_hit[-1],
        average_share=share[-1],
        queries=len(rows),
        without_partner=int(asked.sum()) - len(rows),
        gallery=int(among.sum()),
        patients=len(np.unique(patients)),
    )


def patient_bootstrap(
    values: NDArray[np.float64], patients: NDArray[Any], repeats: int = 2000, seed: int = 0
) -> list[Interval]:
    """Means of the columns of ``(Q, M)`` values over queries, with 95 % percentile intervals.

    Patients are drawn with replacement, each with all of its queries, since queries of one patient are alike.
    """
    _, owners = np.unique(patients, return_inverse=True)
    number = int(owners.max()) + 1
    sums = np.zeros((number, values.shape[1]))
    np.add.at(sums, owners, values)
    sizes = np.bincount(owners, minlength=number).astype(np.float64)
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = np.empty((repeats, values.shape[1]))
    for repeat in range(repeats):
        times = np.bincount(random.integers(0, number, number), minlength=number)
        drawn[repeat] = times @ sums / (times @ sizes)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if repeats else (values.mean(0), values.mean(0))
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def _codes(groups: Sequence[Any], count: int) -> NDArray[np.int64]:
    """Patient ids as numbers, -1 where unknown."""
    ids = list(groups)
    if len(ids) != count:
        raise ConfigError(f"{len(ids)} patient ids for {count} embeddings; one each is needed.")
    return patient_codes(ids)


def _answerable(
    codes: NDArray[np.int64], asked: NDArray[np.bool_], among: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    if not (codes >= 0).any():
        return np.zeros(len(codes), np.bool_)
    sizes = np.bincount(codes[among & (codes >= 0)], minlength=codes.max() + 1)
    return asked & (codes >= 0) & (sizes[codes] - among > 0)


def _mask(given: NDArray[np.bool_] | None, count: int, name: str) -> NDArray[np.bool_]:
    if given is None:
        return np.ones(count, np.bool_)
    mask = np.asarray(given)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise ConfigError(f"{name} is {mask.dtype} {mask.shape}; a bool mask of length {count} is needed.")
    return mask
