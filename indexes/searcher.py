"""Search in one state of an index: exact, or approximate with exact re-ranking, filters always exact."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from retina_fm.indexes.approximate import EXACT_UP_TO, search_ids
from retina_fm.indexes.cache import Cache
from retina_fm.indexes.exact import BLOCK_ROWS, Neighbours, nearest_rows, order, rescore
from retina_fm.indexes.products import load_faiss
from retina_fm.indexes.spaces import Compared, Rows
from retina_fm.indexes.state import State

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]

KEPT_BYTES = 2 << 30
"""Points that are kept in memory where no cache holds them."""
FEW_LEFT = 0.9
"""Share of places from which on candidates are searched among all and those that may not be found dropped."""
_MOST_CANDIDATES = 2048  # beyond it exact search is no slower


class Searcher:
    """Answers in places and scores; which pictures these are is not its concern.

    Attributes:
        state: what is searched.
        space: how embeddings are compared.
        cache: points that were prepared, or None.
        vectors: what is compared; the state's embeddings unless another space is searched.
    """

    selects: ClassVar[bool] = True
    """Whether the cache can be searched among some places alone."""

    def __init__(
        self, state: State, space: Compared, cache: Cache | None, vectors: Rows | None = None
    ) -> None:
        self.state = state
        self.space = space
        self.cache = cache
        self.vectors: Rows = state.vectors if vectors is None else vectors

    @property
    def approximate(self) -> bool:
        """Whether an unfiltered search may miss a neighbour."""
        return self.cache is not None and self.cache.approximate

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: Mask | None = None,
        excluded: list[Positions] | None = None,
        exact: bool = False,
    ) -> Neighbours:
        """The k nearest live rows of each query.

        Args:
            queries: embeddings ``(Q, D)``.
            k: how many; -1 and minus infinity fill up where there are fewer.
            allowed: ``(N,)`` positions that may be found.
            excluded: positions that each query must not find.
            exact: forbid the approximate index.
        """
        points = self.space.points(queries)
        live = self.state.live if allowed is None else self.state.live & allowed
        count = len(self.state) if allowed is None else int(live.sum())
        k_found = max(1, min(k, count))
        filtered = allowed is not None
        few = filtered and count <= EXACT_UP_TO
        if self.approximate and not exact and not few and k_found <= _MOST_CANDIDATES:
            return _widened(self._approximate(points, k_found, live, filtered, excluded), k)
        return _widened(self._exact(points, k_found, live, excluded), k)

    def points_of(self, positions: Positions) -> NDArray[np.float32]:
        """Points at some positions."""
        if self._matrix is not None and (not len(positions) or positions.max() < len(self._matrix)):
            return self._matrix[positions]
        return self.space.points(self.vectors.take(positions))

    def blocks(self, first: int = 0, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Points of all positions from one on, as (first position, block) pairs."""
        matrix = self._matrix
        done = first
        if matrix is not None:
            for start in range(first, len(matrix), rows):
                yield start, matrix[start : start + rows]
            done = max(first, len(matrix))
        for start, block in self.vectors.blocks(done):
            yield start, self.space.points(block)

    @cached_property
    def _matrix(self) -> NDArray[np.float32] | None:
        """Points of the first positions: the cache's, all of them in memory, or none where they are many."""
        state, cache = self.state, self.cache
        if cache is not None and not cache.approximate and cache.about.rows == state.total:
            return cache.matrix()
        if self.approximate or 4 * state.total * self.vectors.dimension > KEPT_BYTES:
            return None
        ready = cache.matrix() if cache is not None else np.empty((0, self.vectors.dimension), np.float32)
        rest = [self.space.points(block) for _, block in self.vectors.blocks(len(ready))]
        return np.concatenate([ready, *rest])

    def _exact(
        self, points: NDArray[np.float32], k: int, live: Mask, excluded: list[Positions] | None
    ) -> Neighbours:
        mask = None
        if excluded is not None and any(len(positions) for positions in excluded):
            mask = np.zeros((len(points), len(live)), np.bool_)
            for row, positions in zip(mask, excluded, strict=True):
                row[positions] = True
        rows = BLOCK_ROWS if len(points) > 1 else 4 * BLOCK_ROWS
        blocks = (
            self.blocks(rows=rows) if self._matrix is not None or live.mean() > 0.5 else self._gathered(live)
        )
        allowed, longest = None if live.all() else live, self.space.longest
        return nearest_rows(points, blocks, k, allowed=allowed, excluded=mask, longest=longest)

    def _gathered(self, live: Mask) -> Iterator[tuple[Positions, NDArray[np.float32]]]:
        """Points of the live positions alone, so that a filter reads only what it lets through."""
        places = np.flatnonzero(live)
        for start in range(0, len(places), BLOCK_ROWS):
            some = places[start : start + BLOCK_ROWS]
            yield some, self.space.points(self.vectors.take(some))

    def _approximate(
        self,
        points: NDArray[np.float32],
        k: int,
        live: Mask,
        filtered: bool,
        excluded: list[Positions] | None,
    ) -> Neighbours:
        assert self.cache is not None and self.cache.about.setting is not None
        setting, covered = self.cache.about.setting, self.cache.about.rows
        depth = max(setting.depth, 4 * k)
        if excluded is not None:
            depth += max((len(positions) for positions in excluded), default=0)
        if depth > _MOST_CANDIDATES:
            return self._exact(points, k, live, excluded)
        share = float(live[:covered].mean()) if filtered or len(self.state) < self.state.total else 1.0
        if filtered and share < FEW_LEFT and not self.selects:
            return self._exact(points, k, live, excluded)
        ids = self.candidates(points, depth, setting.probes, live[:covered], share)
        candidates = [np.sort(row[row >= 0]) for row in ids]
        answers = Neighbours(
            np.full((len(points), k), -1, np.int64), np.full((len(points), k), -np.inf, np.float32)
        )
        tail = None
        if covered < self.state.total:
            more = k + max((len(positions) for positions in excluded or []), default=0)
            longest = self.space.longest
            tail = nearest_rows(points, self.blocks(covered), more, allowed=live, longest=longest)
        together = np.unique(np.concatenate(candidates)) if candidates else np.empty(0, np.int64)
        vectors = self.points_of(together)
        for number, point in enumerate(points):
            found = candidates[number]
            scores = rescore(point, vectors[np.searchsorted(together, found)])
            if tail is not None:
                found = np.concatenate([found, tail.positions[number]])
                scores = np.concatenate([scores, tail.scores[number]])
            keep = found >= 0
            if excluded is not None:
                keep &= ~np.isin(found, excluded[number])
            keep[keep] = live[found[keep]]
            found, scores = found[keep], scores[keep]
            first = order(scores, found)[:k]
            answers.positions[number, : len(first)] = found[first]
            answers.scores[number, : len(first)] = scores[first]
        return answers

    def candidates(
        self, points: NDArray[np.float32], depth: int, probes: int, live: Mask, share: float
    ) -> NDArray[np.int64]:
        """Places of candidates ``(Q, depth or more)`` among those that the cache covers, -1 for none.

        Args:
            points: of the queries.
            depth: how many are wanted.
            probes: lists to be read.
            live: covered places that may be found.
            share: of these among all covered ones.
        """
        assert self.cache is not None
        selector = None
        if share < FEW_LEFT:
            selector = _selector(np.flatnonzero(live))
            probes = int(min(self.lists, np.ceil(probes / max(share, 1e-9))))
        elif share < 1:
            depth = int(np.ceil(depth / share))  # cheaper than to ask of each code whether it may be found
        return search_ids(self.cache.index, points, depth, probes, selector)

    @cached_property
    def lists(self) -> int:
        """Inverted lists of the approximate index."""
        assert self.cache is not None
        return int(load_faiss().extract_index_ivf(self.cache.index).nlist)


def _selector(places: Positions) -> object:
    chosen = np.zeros(int(places[-1]) + 1 if len(places) else 1, np.bool_)
    chosen[places] = True
    return load_faiss().IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


def _widened(found: Neighbours, k: int) -> Neighbours:
    missing = k - found.positions.shape[1]
    if missing <= 0:
        return found
    return Neighbours(
        np.pad(found.positions, ((0, 0), (0, missing)), constant_values=-1),
        np.pad(found.scores, ((0, 0), (0, missing)), constant_values=-np.inf),
    )
