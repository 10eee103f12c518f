"""Recall@K: is another picture of the same patient among the K nearest?

Two readings of the measure are in use. *Any hit*: a query counts 1 when at least one of its K nearest shows
the same patient, else 0; this is the definition in *Fundus2Video*, whose average recall is the mean over K of
1, 5 and 10. *Share found*: of the other pictures of the patient, how many are among the K nearest; with more
pictures a patient than K it cannot reach 1.

The query itself is never among its own neighbours. A query whose patient has no other picture in the gallery
cannot be answered and is left out; it stays in the gallery for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retina_fm._io.persons import persons
from retina_fm.errors import ConfigError
from retina_fm.metrics.scores import Floats

KS = (1, 5, 10)
_BLOCK = 1024
"""Queries whose likenesses are held at once."""

Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]
Search = Callable[[Positions, int], Positions]
"""Queries ``(Q,)`` and k to the positions of the nearest others ``(Q, k)``, -1 where there are fewer."""


class RecallHits(NamedTuple):
    """What every query found.

    Attributes:
        queries: ``(Q,)`` positions of pictures whose patient has another one in the gallery.
        hits: bool ``(Q, len(ks))``: a picture of the same patient is among the K nearest.
        found: ``(Q, len(ks))``: share of the patient's other pictures among them.
        order: ``(Q, max(ks))`` positions of the nearest, -1 where there are fewer; no more columns
            than pictures.
    """

    queries: Positions
    hits: Mask
    found: Floats
    order: Positions


def unit_rows(features: ArrayLike) -> Floats:
    """Rows of length 1, float64; rows of zeros stay zero. Their products are cosines."""
    values = np.asarray(features, np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def nearest_others(
    features: ArrayLike, queries: Positions, k: int, gallery: Mask | None = None
) -> tuple[Positions, Floats]:
    """The k nearest others of some rows by cosine.

    Equal likenesses are ranked by position, which favours nobody as long as the rows of a patient are not
    sorted to the front.

    Args:
        features: ``(N, D)``.
        queries: ``(Q,)`` rows to ask about.
        k: how many.
        gallery: ``(N,)`` rows that may be found; all without it.

    Returns:
        Positions ``(Q, k)``, -1 where there are fewer others, and cosines ``(Q, k)``, minus infinity there.
    """
    unit = unit_rows(features)
    order, likeness = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf)
    depth = min(k, len(unit))
    for start in range(0, len(queries), _BLOCK):
        some = queries[start : start + _BLOCK]
        cosines = unit[some] @ unit.T
        cosines[np.arange(len(some)), some] = -np.inf
        if gallery is not None:
            cosines[:, ~gallery] = -np.inf
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :depth]
        values = np.take_along_axis(cosines, best, axis=1)
        order[start : start + len(some), :depth] = np.where(np.isfinite(values), best, -1)
        likeness[start : start + len(some), :depth] = values
    return order, likeness


def recall_hits(
    nearest: Search | ArrayLike,
    groups: Sequence[Any] | NDArray[Any],
    ks: Sequence[int] = KS,
    *,
    queries: Mask | None = None,
    gallery: Mask | None = None,
) -> RecallHits:
    """What queries find of their own patient, each picture in turn as the query.

    Args:
        nearest: features ``(N, D)`` that cosines are taken of, or a search of one's own, which obeys the
            gallery and leaves the query out.
        groups: N patient ids; None, NaN and empty strings mean unknown: such pictures are never asked about.
        ks: numbers of neighbours.
        queries: ``(N,)`` pictures to ask about; all without it.
        gallery: ``(N,)`` pictures that may be found; all without it.

    Returns:
        Hits of the queries that can be answered; of none where no patient has two pictures.

    Raises:
        ConfigError: K below 1, or masks of another length.
    """
    if not ks or min(ks) < 1:
        raise ConfigError(f"k is {tuple(ks)}; whole numbers from 1 are needed.")
    codes = patient_codes(groups)
    deepest = min(max(ks), max(1, len(codes)))
    asked = _mask(queries, len(codes), "queries")
    among = _mask(gallery, len(codes), "gallery")
    known = codes >= 0
    sizes = np.bincount(codes[among & known], minlength=int(codes.max(initial=-1)) + 1)
    others = np.where(known, sizes[codes] - among, 0) if len(sizes) else np.zeros(len(codes), np.int64)
    rows = np.flatnonzero(asked & (others > 0))
    if callable(nearest):
        order = np.asarray(nearest(rows, deepest))
    else:
        order, _ = nearest_others(nearest, rows, deepest, gallery)
    same = (order >= 0) & (codes[order] == codes[rows][:, None])
    number = np.stack([same[:, :k].sum(1) for k in ks], 1)
    return RecallHits(rows, number > 0, number / others[rows][:, None], order)


def patient_codes(groups: Sequence[Any] | NDArray[Any]) -> Positions:
    """Patient ids as numbers ``(N,)``, -1 where nobody is named; spellings of one id are one."""
    known: dict[str, int] = {}
    return np.array([-1 if p is None else known.setdefault(p, len(known)) for p in persons(groups)], np.int64)


def _mask(given: Mask | None, count: int, name: str) -> Mask:
    if given is None:
        return np.ones(count, np.bool_)
    mask = np.asarray(given)
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise ConfigError(f"{name} is {mask.dtype} {mask.shape}; a bool mask of length {count} is needed.")
    return mask
