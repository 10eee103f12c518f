"""Embeddings to the vectors that are compared: checked, whitened, scaled to length one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, nearest
from retina_fm.models.whitening import Whitening

METRICS = ("cosine", "dot")
_CHUNK = 16_384


@dataclass(frozen=True)
class Space:
    """How two embeddings are compared: always by the inner product of their points.

    Attributes:
        metric: ``cosine`` (points of length one) or ``dot`` (embeddings as they are).
        whitening: applied before the length is taken, with ``cosine`` alone.
    """

    metric: str = "cosine"
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"metric is {self.metric!r}. {nearest(str(self.metric), METRICS)}")
        if self.metric == "dot" and self.whitening is not None:
            raise ConfigError("Whitening goes with metric='cosine'; leave it out with metric='dot'.")

    @property
    def hash(self) -> str:
        """Of everything that determines the points."""
        digest = hashlib.sha256(self.metric.encode())
        if self.whitening is not None:
            for values in (self.whitening.mean, self.whitening.directions, self.whitening.gains):
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:16]

    @property
    def longest(self) -> float | None:
        """Bound of the points' lengths, or None where there is none."""
        return 1.0001 if self.metric == "cosine" else None

    def points(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Embeddings ``(N, D)`` to points ``(N, D)``, float32, C order; a vector of zeros stays zero."""
        if self.metric == "dot":
            return np.ascontiguousarray(embeddings, dtype=np.float32)
        points = np.empty(embeddings.shape, np.float32)
        for start in range(0, len(embeddings), _CHUNK):
            part = np.asarray(embeddings[start : start + _CHUNK], dtype=np.float32)
            if self.whitening is not None:
                part = self.whitening.apply(part)
            lengths = np.sqrt(np.square(part, dtype=np.float64).sum(axis=1))
            scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
            points[start : start + len(part)] = part * scale[:, None].astype(np.float32)
        return points


def check_embeddings(embeddings: Any, dimension: int | None = None) -> NDArray[np.float32]:
    """A finite float32 matrix ``(N, D)``.

    Raises:
        ConfigError: another rank or length, not numbers, NaN or infinity; the first such row is named.
    """
    try:
        values = np.asarray(embeddings, dtype=np.float32)
    except (TypeError, ValueError):
        raise ConfigError(f"Embeddings are {type(embeddings).__name__}, not an (N, D) array.") from None
    if values.ndim != 2 or (dimension is not None and values.shape[1] != dimension):
        wanted = "D" if dimension is None else str(dimension)
        raise ConfigError(
            f"Embeddings have shape {values.shape}; (N, {wanted}) is needed. Were they made by another model?"
        )
    if values.shape[1] == 0:
        raise ConfigError("Embeddings have no dimension: their shape is (N, 0).")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ConfigError(
            f"{len(bad)} embeddings hold NaN or infinity, the first in row {bad[0]}; leave them out."
        )
    return np.ascontiguousarray(values)
