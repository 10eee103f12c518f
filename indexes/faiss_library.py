"""FAISS, imported in the one order that works."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def load_faiss() -> Any:
    """The module. torch comes first: each brings an OpenMP runtime, and the other order can crash."""
    import torch  # noqa: F401
    import faiss  # isort: skip

    return faiss
