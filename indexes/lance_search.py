"""Approximate search by LanceDB: an inverted file over the vectors' own table, exact re-ranking here.

Up to 200 000 vectors search is exact. Beyond, an ``IVF_SQ`` index nominates candidates (one byte a number;
lists: the power of two nearest to the square root of the number of vectors), which are scored again with
whole vectors. As with FAISS, the number of lists read and of candidates is the cheapest whose recall@10 on
some of the index's own vectors, against exact search, reaches the target; it is kept with the index.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.indexes.approximate import (
    EXACT_UP_TO,
    MEASURED_K,
    MEASURED_QUERIES,
    TARGET_RECALL,
    Plan,
    Setting,
    drawn,
    tune,
)
from retina_fm.indexes.cache import About, Cache, is_stale
from retina_fm.indexes.exact import nearest_rows
from retina_fm.indexes.lance_places import load_lancedb, reading
from retina_fm.indexes.lance_store import POINT, LanceState, LanceWriter
from retina_fm.indexes.lance_vectors import PLACE
from retina_fm.indexes.searcher import Mask, Searcher
from retina_fm.indexes.space import Space
from retina_fm.indexes.state import EMBEDDING

logger = logging.getLogger("retina_fm")

_TRAINED_PER_LIST = 64
_ROUNDS = 10
_AT_ONCE = 64


def lance_searcher(state: LanceState, space: Space) -> Searcher:
    """Search by places in one version, with LanceDB's index where there is one for this space."""
    found = state.commit.search
    if found is None or found["space"] != space.hash:
        return Searcher(state, space, None)
    about = About(**{**found, "setting": Setting(**found["setting"])})
    return LanceSearcher(state, space, Cache(_Inverted(state.table, space), about))


def refresh_search(state: LanceState, space: Space, writer: LanceWriter, force: bool = False) -> bool:
    """Make LanceDB's index where the vectors are many and it is missing or too far behind.

    Returns:
        Whether it was made and committed.
    """
    if state.total <= EXACT_UP_TO:
        return False
    if not force and not is_stale(lance_searcher(state, space).cache, state):
        return False
    plan = _plan(state)
    inverted = _Inverted(writer.build_search(_column(space), _config(plan, space)), space)
    asked = drawn(np.random.Generator(np.random.PCG64(0)), state.live_positions, MEASURED_QUERIES)
    queries = space.points(state.vectors.take(asked))
    blocks = ((first, space.points(block)) for first, block in state.vectors.blocks())
    truth = nearest_rows(
        queries, blocks, MEASURED_K, allowed=state.live, excluded=asked, longest=space.longest
    ).positions
    setting = tune(inverted, plan, queries, asked, truth, state, TARGET_RECALL, search=_search)
    logger.info("%s over %d vectors: %s", plan.factory, state.total, setting)
    about = About(plan.factory, "", space.hash, state.manifest.generation, state.total, "", setting=setting)
    writer.commit_search(asdict(about))
    return True


class LanceSearcher(Searcher):
    """:class:`Searcher` whose candidates LanceDB nominates.

    A filter that leaves many vectors, but far from all, is answered exactly, by reading these.
    """

    selects = False

    def candidates(
        self, points: NDArray[np.float32], depth: int, probes: int, live: Mask, share: float
    ) -> NDArray[np.int64]:
        """See :meth:`Searcher.candidates`."""
        assert self.cache is not None
        ids = _search(self.cache.index, points, int(np.ceil(depth / share)), probes)
        found = (ids >= 0) & (ids < len(live))  # LanceDB may have indexed rows that came since
        found[found] = live[ids[found]]
        return np.where(found, ids, -1)


class _Inverted:
    """LanceDB's index of a column."""

    def __init__(self, table: Any, space: Space) -> None:
        self.table = table
        self.column = _column(space)
        self.metric = space.metric


def _search(index: _Inverted, points: NDArray[np.float32], count: int, probes: int) -> NDArray[np.int64]:
    """Places that LanceDB nominates ``(Q, count)``, -1 where there are fewer."""
    ids = np.full((len(points), count), -1, np.int64)
    for start in range(0, len(points), _AT_ONCE):
        some = list(points[start : start + _AT_ONCE])
        with reading(index.column):
            query = index.table.search(some, vector_column_name=index.column).distance_type(index.metric)
            query = query.fast_search().nprobes(probes).limit(count).select([PLACE, "_distance"])
            found = query.to_arrow()
        owners = found.column("query_index").to_numpy() if len(some) > 1 else np.zeros(found.num_rows, int)
        places = found.column(PLACE).to_numpy()
        for number in range(len(some)):
            own = places[owners == number]
            ids[start + number, : len(own)] = own
    return ids


def _plan(state: LanceState) -> Plan:
    lists = int(2 ** max(2, round(math.log2(math.sqrt(state.total)))))
    return Plan(f"IVF{lists},SQ8 (LanceDB)", lists, state.dimension)


def _config(plan: Plan, space: Space) -> Any:
    return load_lancedb().index.IvfSq(
        distance_type=space.metric,
        num_partitions=plan.lists,
        max_iterations=_ROUNDS,
        sample_rate=_TRAINED_PER_LIST,
    )


def _column(space: Space) -> str:
    return EMBEDDING if space.whitening is None else POINT
