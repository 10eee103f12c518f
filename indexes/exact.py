"""Exact nearest rows by brute force, with one rule for ties: the higher score, then the earlier row.

A matrix product in float32 gives two equal vectors scores that differ in the last bits, depending on where
they lie in a block. So it only nominates candidates, with its worst rounding error as margin; these are then
scored again in float64, each by itself, rounded once to float32, and put in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.indexes.products import inner_products

Matrix = NDArray[np.float32]
Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]

BLOCK_ROWS = 16_384
"""Rows that one matrix product takes: 64 MB of 1024 numbers each."""
_UNIT = 2.0**-24  # rounding unit of float32
_PRUNE_AT = 8192
_RESCORED = 4096


class Neighbours(NamedTuple):
    """The nearest rows of each query, best first.

    Attributes:
        positions: ``(Q, k)`` rows of the matrix, -1 where there are fewer than k.
        scores: ``(Q, k)`` float32, minus infinity where there is no row.
    """

    positions: Positions
    scores: Matrix


def blocks_of(vectors: Matrix, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, Matrix]]:
    """A matrix as (first row, block) pairs."""
    for first in range(0, len(vectors), rows):
        yield first, vectors[first : first + rows]


def nearest_rows(
    queries: Matrix,
    vectors: Matrix | Iterable[tuple[int | Positions, Matrix]],
    k: int,
    *,
    allowed: Mask | None = None,
    excluded: Mask | Positions | None = None,
    longest: float | None = None,
) -> Neighbours:
    """The k rows with the largest inner product with each query.

    Args:
        queries: ``(Q, D)``.
        vectors: ``(N, D)``, or (first row, block) or (rows, block) pairs in ascending order of rows.
        k: how many; fewer rows than that leave -1.
        allowed: ``(N,)`` rows that may be found; all without it.
        excluded: ``(Q,)`` one row a query that it must not find (-1 for none), or ``(Q, N)`` a mask.
        longest: bound of the rows' norms; taken from each block without it, which reads it once more.

    Returns:
        Positions and scores in the order of score (float64 product rounded to float32), then position.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    found = [_Best(k) for _ in queries]
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    pairs: Iterable[tuple[int | Positions, Matrix]]
    pairs = blocks_of(vectors) if isinstance(vectors, np.ndarray) else vectors
    for first, whole in pairs:
        block = np.ascontiguousarray(whole, dtype=np.float32)
        rows = first if isinstance(first, np.ndarray) else np.arange(first, first + len(block))
        if not len(rows):
            continue
        if allowed is not None:
            kept = allowed[rows]
            if not kept.any():
                continue
            if kept.mean() < 0.5:
                block, rows = block[kept], rows[kept]
        scores = inner_products(queries, block)
        _mask(scores, rows, allowed, excluded)
        # an inner product of length n errs by less than n units of the product of the norms
        bound = longest or float(np.sqrt(np.einsum("ij,ij->i", block, block).max()))
        margins = 1.05 * block.shape[1] * _UNIT * lengths * bound
        highest = scores.max(axis=1)
        for query, best, line, top, margin in zip(queries, found, scores, highest, margins, strict=True):
            if top >= best.floor - margin:
                best.offer(query, line, rows, block, float(margin))
    results = [best.finish() for best in found]
    if not results:
        return Neighbours(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    positions, ranked = zip(*results, strict=True)
    return Neighbours(np.stack(positions), np.stack(ranked))


def rescore(query: Matrix, rows: Matrix) -> Matrix:
    """Inner products of one query with rows, each in float64 by itself and rounded once to float32."""
    scores = np.empty(len(rows), np.float32)
    wide = query.astype(np.float64)
    for start in range(0, len(rows), _RESCORED):
        part = rows[start : start + _RESCORED].astype(np.float64)
        part *= wide
        scores[start : start + len(part)] = part.sum(axis=1)
    return scores


def order(scores: Matrix, positions: Positions) -> NDArray[np.intp]:
    """The order of the tie rule: higher score first, then lower position."""
    return np.lexsort((positions, -scores))


def _mask(scores: Matrix, rows: Positions, allowed: Mask | None, excluded: Mask | Positions | None) -> None:
    if allowed is not None:
        scores[:, ~allowed[rows]] = -np.inf
    if excluded is None:
        return
    if excluded.ndim == 2:
        scores[excluded[:, rows]] = -np.inf
        return
    places = np.searchsorted(rows, excluded)
    inside = places < len(rows)
    inside[inside] = rows[places[inside]] == excluded[inside]
    scores[np.flatnonzero(inside), places[inside]] = -np.inf


class _Best:
    """Candidates of one query: their rows are kept until they are scored for good."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.floor = -np.inf  # the k-th best score that is certain so far
        self.positions: Positions = np.empty(0, np.int64)
        self.scores: Matrix = np.empty(0, np.float32)

    def offer(self, query: Matrix, line: Matrix, rows: Positions, block: Matrix, margin: float) -> None:
        if self.k < 1:
            return
        floor = self.floor - margin
        if not np.isfinite(floor) or len(self.positions) < self.k:
            candidates = np.flatnonzero(line > -np.inf)
            if len(candidates) > self.k:
                kth = np.partition(line[candidates], len(candidates) - self.k)[len(candidates) - self.k]
                candidates = candidates[line[candidates] >= kth - 2 * margin]
        else:
            candidates = np.flatnonzero(line >= floor)
            if len(candidates) > _PRUNE_AT:
                kth = np.partition(line[candidates], len(candidates) - self.k)[len(candidates) - self.k]
                candidates = candidates[line[candidates] >= kth - 2 * margin]
        if not len(candidates):
            return
        positions = np.concatenate([self.positions, rows[candidates]])
        scores = np.concatenate([self.scores, rescore(query, block[candidates])])
        first = order(scores, positions)[: self.k]
        self.positions, self.scores = positions[first], scores[first]
        if len(first) == self.k:
            self.floor = float(self.scores[-1])

    def finish(self) -> tuple[Positions, Matrix]:
        missing = self.k - len(self.positions)
        return (
            np.pad(self.positions, (0, missing), constant_values=-1),
            np.pad(self.scores, (0, missing), constant_values=-np.inf),
        )
