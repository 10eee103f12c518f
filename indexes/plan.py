"""Which FAISS index suits how many vectors: one rule.

* Up to 200 000 vectors: ``IDMap2,Flat``, exact.
* Beyond: ``PCAR<d>,IVF<lists>,SQ8``, approximate, with exact re-ranking. ``lists`` is the power of two
  nearest to three times the square root of the number of vectors. ``d`` is the least of 64, 128, 256, 512
  and D that keeps 90 % of the variance of a training sample.
* Where these codes exceed the memory allowed (a quarter of the machine's without ``memory=``), the product
  quantiser ``PQ<d/2>`` takes the place of ``SQ8``, then ``PQ<d/4>``, then ``PQ<d/8>``.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 200_000
KEPT_VARIANCE = 0.9
WIDTHS = (64, 128, 256, 512)
TRAINED_PER_LIST = 40
ID_BYTES = 8


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        factory: FAISS's name of it.
        approximate: whether search in it can miss a neighbour.
        lists: inverted lists, 0 for exact search.
        code_bytes: a vector takes in memory.
    """

    factory: str
    approximate: bool
    lists: int
    code_bytes: int


def plan_exact(dimension: int) -> Plan:
    """Brute force over whole vectors."""
    return Plan("IDMap2,Flat", False, 0, 4 * dimension)


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
    return Plan(f"{reduction}IVF{lists},{name}", True, lists, size)


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
