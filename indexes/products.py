"""Inner products as fast as the memory or the processor allows, whichever is the limit.

One query is limited by the memory: FAISS's vector kernel on small pieces, one thread a core, reads at the
speed of a plain sum, where BLAS's matrix-vector product reaches half of that. Many queries are a matrix
product.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PIECE_BYTES = 8 << 20
_PRODUCT_BYTES = 16 << 20
_FEW_BYTES = 4 << 20


@cache
def load_faiss() -> Any:
    """FAISS. torch comes first: each brings an OpenMP runtime, and the other order can crash."""
    import torch  # noqa: F401
    import faiss  # isort: skip

    return faiss


def inner_products(queries: NDArray[np.float32], block: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(Q, D)`` and ``(N, D)`` to ``(Q, N)``, float32, in either order; errs by BLAS's usual rounding."""
    if len(queries) > 1 or block.nbytes < _FEW_BYTES:
        return _matrix_product(queries, block)
    scores = np.empty(len(block), np.float32)
    faiss, query = load_faiss(), np.ascontiguousarray(queries[0])
    step = max(1, _PIECE_BYTES // (4 * block.shape[1]))

    def piece(start: int) -> None:
        part, found = block[start : start + step], scores[start : start + step]
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(found), faiss.swig_ptr(query), faiss.swig_ptr(part), block.shape[1], len(part)
        )

    # small pieces, taken as threads become free, so that a core that is busy elsewhere holds nothing up
    list(_threads().map(piece, range(0, len(block), step)))
    return scores[None]


def _matrix_product(queries: NDArray[np.float32], block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Piece by piece, since BLAS is a seventh faster on 16 MB than on 64 MB; turned by its strides alone."""
    scores = np.empty((len(block), len(queries)), np.float32)
    step = max(1, _PRODUCT_BYTES // (4 * block.shape[1]))
    for start in range(0, len(block), step):
        # this way round the wide matrix is the one that is streamed, which BLAS does faster
        np.matmul(block[start : start + step], queries.T, out=scores[start : start + step])
    return scores.T


@cache
def _threads() -> Any:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(min(cores, 16), thread_name_prefix="retina-fm-search")
