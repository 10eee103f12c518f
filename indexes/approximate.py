"""Which FAISS index suits how many vectors, how it is built, and what its recall is against exact search.

* Up to 200 000 vectors: ``Flat``, exact.
* Beyond: ``PCAR<d>,IVF<lists>,SQ8``, approximate, with exact re-ranking. ``lists`` is the power of two
  nearest to three times the square root of the number of vectors. ``d`` is the least of 64, 128, 256, 512
  and D that keeps 90 % of the variance of a training sample.
* Where these codes exceed the memory allowed (a quarter of the machine's without ``memory=``), the product
  quantiser ``PQ<d/2>`` takes the place of ``SQ8``, then ``PQ<d/4>``, then ``PQ<d/8>``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.indexes.exact import nearest_rows
from retina_fm.indexes.products import load_faiss
from retina_fm.indexes.space import Space
from retina_fm.indexes.state import State

logger = logging.getLogger("retina_fm")

EXACT_UP_TO = 200_000
KEPT_VARIANCE = 0.9
WIDTHS = (64, 128, 256, 512)
TRAINED_PER_LIST = 40
ID_BYTES = 8
TARGET_RECALL = 0.98
MEASURED_K = 10
MEASURED_QUERIES = 500
DEPTHS = (20, 50, 100, 200, 400, 800)
"""Candidates that are scored again with whole vectors."""
_ERRORS = 2.0  # standard errors of the measured recall that the target keeps away from it
_RANDOM_READ = 4.0  # cost of a byte read at random, in bytes read in order

Search = Callable[[Any, NDArray[np.float32], int, int], NDArray[np.int64]]
"""From an index, queries, how many are wanted and lists to be read to places ``(Q, count)``, -1 for none."""


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        factory: FAISS's name of it.
        lists: inverted lists.
        code_bytes: a vector takes in memory.
    """

    factory: str
    lists: int
    code_bytes: int


def list_count(vectors: int) -> int:
    """Inverted lists for so many vectors."""
    return int(2 ** max(4, round(math.log2(3 * math.sqrt(vectors)))))


def plan_approximate(vectors: int, sample: NDArray[np.float32], memory: int) -> Plan:
    """Inverted lists over shortened, quantised vectors.

    Args:
        vectors: how many there will be.
        sample: ``(M, D)`` points among them.
        memory: bytes that the codes may take.
    """
    width = kept_width(sample)
    lists = list_count(vectors)
    reduction = f"PCAR{width}," if width < sample.shape[1] else ""
    codes = [("SQ8", width)]
    codes += [(f"PQ{width // part}", width // part) for part in (2, 4, 8) if width % part == 0]
    for name, size in codes:  # noqa: B007  the last one is kept where none fits
        if vectors * (size + ID_BYTES) <= memory:
            break
    return Plan(f"{reduction}IVF{lists},{name}", lists, size)


def kept_width(sample: NDArray[np.float32]) -> int:
    """The least of the widths on offer that keeps nine tenths of the sample's variance."""
    centred = sample.astype(np.float64) - sample.mean(axis=0)
    variances = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    kept = np.cumsum(variances) / max(float(variances.sum()), 1e-30)
    needed = int(np.searchsorted(kept, KEPT_VARIANCE)) + 1
    dimension = sample.shape[1]
    return min((width for width in WIDTHS if needed <= width < dimension), default=dimension)


def default_memory() -> int:
    """A quarter of the machine's memory, in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 4 << 30


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
    state: State, space: Space, memory: int, seed: int = 0, target: float = TARGET_RECALL
) -> tuple[Any, Plan, Setting]:
    """Train, fill and tune in two passes over the embeddings: a sample, then all.

    Returns:
        The FAISS index of all places, what it is, and how it reaches the recall asked for.
    """
    faiss = load_faiss()
    random = np.random.Generator(np.random.PCG64(seed))
    places = state.live_positions
    rough = space.points(state.vectors.take(drawn(random, places, 16_384)))
    plan = plan_approximate(len(places), rough, memory)
    index = faiss.index_factory(state.dimension, plan.factory, faiss.METRIC_INNER_PRODUCT)
    inverted = faiss.extract_index_ivf(index)
    inverted.cp.niter = 10
    # FAISS warns below 39 points a list; a small index in a test has fewer
    inverted.cp.min_points_per_centroid = 1
    sample = drawn(random, places, max(TRAINED_PER_LIST * plan.lists, 65_536))
    index.train(space.points(state.vectors.take(sample)))
    asked = drawn(random, places, MEASURED_QUERIES)
    queries = space.points(state.vectors.take(asked))

    def filling() -> Iterator[tuple[int, NDArray[np.float32]]]:
        for first, block in state.vectors.blocks():
            points = space.points(block)
            index.add(points)
            yield first, points

    truth = nearest_rows(
        queries, filling(), MEASURED_K, allowed=state.live, excluded=asked, longest=space.longest
    ).positions
    setting = tune(index, plan, queries, asked, truth, state, target)
    logger.info("%s over %d vectors: %s", plan.factory, state.total, setting)
    return index, plan, setting


def tune(
    index: Any,
    plan: Plan,
    queries: NDArray[np.float32],
    own: NDArray[np.int64],
    truth: NDArray[np.int64],
    state: State,
    target: float,
    search: Search | None = None,
) -> Setting:
    """The cheapest setting that reaches the recall asked for, or the best there is.

    Re-ranking is exact, so a true neighbour is found if and only if it is among the candidates.
    """
    best = Setting(0, 0, -1.0)
    asked = max(1, len(truth))
    cheapest: tuple[float, Setting] | None = None
    per_list = plan.code_bytes * state.total / plan.lists
    probes = 1
    while True:
        ids = (search or search_ids)(index, queries, DEPTHS[-1] + 1, probes)
        ids = np.where(ids == own[:, None], -2, ids)
        for depth in DEPTHS:
            hit = [
                np.isin(true[true >= 0], found[: depth + 1]).mean() if (true >= 0).any() else 1.0
                for true, found in zip(truth, ids, strict=True)
            ]
            setting = Setting(probes, depth, float(np.mean(hit)))
            cost = probes * per_list + depth * 4 * state.dimension * _RANDOM_READ
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
    """Places of candidates ``(Q, count)``, -1 where there are fewer."""
    faiss = load_faiss()
    settings = faiss.SearchParametersIVF(nprobe=probes, **({"sel": selector} if selector else {}))
    if isinstance(faiss.downcast_index(index), faiss.IndexPreTransform):
        settings = faiss.SearchParametersPreTransform(index_params=settings)
    ids: NDArray[np.int64] = index.search(queries, count, params=settings)[1]
    return ids


def drawn(random: np.random.Generator, places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of some places, or all of them, in ascending order."""
    if len(places) <= count:
        return places
    return np.sort(random.choice(places, count, replace=False))
