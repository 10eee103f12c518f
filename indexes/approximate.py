"""Building the approximate index, and measuring its recall against exact search while at it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.indexes.exact import nearest_rows
from retina_fm.indexes.faiss_library import load_faiss
from retina_fm.indexes.plan import TRAINED_PER_LIST, Plan, plan_approximate
from retina_fm.indexes.snapshot import Snapshot
from retina_fm.indexes.space import Space

logger = logging.getLogger("retina_fm")

TARGET_RECALL = 0.98
MEASURED_K = 10
MEASURED_QUERIES = 500
DEPTHS = (20, 50, 100, 200, 400, 800)
"""Candidates that are scored again with whole vectors."""
_ERRORS = 2.0  # standard errors of the measured recall that the target keeps away from it
_RANDOM_READ = 4.0  # cost of a byte read at random, in bytes read in order


@dataclass(frozen=True)
class Setting:
    """How thoroughly the approximate index is searched.

    Attributes:
        probes: inverted lists that are read.
        depth: candidates that are scored again.
        recall: recall@10 measured on a sample of the index's own vectors, each left out of its answer.
    """

    probes: int
    depth: int
    recall: float


def build_approximate(
    snapshot: Snapshot, space: Space, memory: int, seed: int = 0, target: float = TARGET_RECALL
) -> tuple[Any, Plan, Setting]:
    """Train, fill and tune in two passes over the embeddings: a sample, then all.

    Returns:
        The FAISS index with the rows' ids, what it is, and how it reaches the recall asked for.
    """
    faiss = load_faiss()
    random = np.random.Generator(np.random.PCG64(seed))
    places = snapshot.live_positions
    rough = space.points(snapshot.take(_drawn(random, places, 16_384)))
    plan = plan_approximate(len(places), rough, memory)
    index = faiss.index_factory(snapshot.dimension, plan.factory, faiss.METRIC_INNER_PRODUCT)
    inverted = faiss.extract_index_ivf(index)
    inverted.cp.niter = 10
    # FAISS warns below 39 points a list; a small index in a test has fewer
    inverted.cp.min_points_per_centroid = 1
    sample = _drawn(random, places, max(TRAINED_PER_LIST * plan.lists, 65_536))
    index.train(space.points(snapshot.take(sample)))
    asked = _drawn(random, places, MEASURED_QUERIES)
    queries = space.points(snapshot.take(asked))

    def filling() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first, block in snapshot.blocks():
            points = space.points(block)
            index.add_with_ids(points, snapshot.ids[first : first + len(block)])
            yield first, points

    truth = nearest_rows(
        queries, filling(), MEASURED_K, allowed=snapshot.live, excluded=asked, longest=space.longest
    ).positions
    setting = tune(index, plan, queries, asked, truth, snapshot, target)
    logger.info("%s over %d vectors: %s", plan.factory, snapshot.total, setting)
    return index, plan, setting


def tune(
    index: Any,
    plan: Plan,
    queries: NDArray[np.float32],
    own: NDArray[np.int64],
    truth: NDArray[np.int64],
    snapshot: Snapshot,
    target: float,
) -> Setting:
    """The cheapest setting that reaches the recall asked for, or the best there is.

    Re-ranking is exact, so a true neighbour is found if and only if it is among the candidates.
    """
    best = Setting(0, 0, -1.0)
    asked = max(1, len(truth))
    cheapest: tuple[float, Setting] | None = None
    per_list = plan.code_bytes * snapshot.total / plan.lists
    probes = 1
    while True:
        ids = search_ids(index, queries, DEPTHS[-1] + 1, probes)
        ids = np.where(ids == snapshot.ids[own][:, None], -2, ids)
        for depth in DEPTHS:
            hit = [
                np.isin(snapshot.ids[true[true >= 0]], found[: depth + 1]).mean()
                if (true >= 0).any()
                else 1.0
                for true, found in zip(truth, ids, strict=True)
            ]
            setting = Setting(probes, depth, float(np.mean(hit)))
            cost = probes * per_list + depth * 4 * snapshot.dimension * _RANDOM_READ
            if setting.recall > best.recall:
                best = setting
            doubt = _ERRORS * float(np.std(hit)) / asked**0.5
            if setting.recall - doubt >= target and (cheapest is None or cost < cheapest[0]):
                cheapest = cost, setting
        if probes >= plan.lists or (cheapest is not None and probes * per_list > cheapest[0]):
            break
        probes = min(2 * probes, plan.lists)
    if cheapest is None:
        logger.warning("approximate search reaches a recall of %.3f, not %.2f", best.recall, target)
        return best
    return cheapest[1]


def search_ids(
    index: Any, queries: NDArray[np.float32], count: int, probes: int, selector: Any = None
) -> NDArray[np.int64]:
    """Ids of candidates ``(Q, count)``, -1 where there are fewer."""
    faiss = load_faiss()
    settings = faiss.SearchParametersIVF(nprobe=probes, **({"sel": selector} if selector else {}))
    if isinstance(faiss.downcast_index(index), faiss.IndexPreTransform):
        settings = faiss.SearchParametersPreTransform(index_params=settings)
    ids: NDArray[np.int64] = index.search(queries, count, params=settings)[1]
    return ids


def _drawn(random: np.random.Generator, places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if len(places) <= count:
        return places
    return np.sort(random.choice(places, count, replace=False))
