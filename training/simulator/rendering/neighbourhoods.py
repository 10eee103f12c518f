"""Reductions over the 5 x 5 pixels round each, exact on every device."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def highest_around(maps: Tensor) -> Tensor:
    """The highest of the 5 x 5 pixels round each."""
    for axis in (-2, -1):
        maps = reduce(torch.maximum, _neighbours(maps, axis, float("-inf")))
    return maps


def mean_around(maps: Tensor) -> Tensor:
    """The mean of the 5 x 5 pixels round each, of those that lie in the picture."""
    for axis in (-2, -1):
        length = maps.shape[axis]
        place = torch.arange(length, device=maps.device)
        counts = (place.clamp(max=2) + (length - 1 - place).clamp(max=2) + 1).to(maps.dtype)
        total = reduce(torch.add, _neighbours(maps, axis, 0.0))
        maps = total / (counts[:, None] if axis == -2 else counts)
    return maps


def _neighbours(maps: Tensor, axis: int, beyond: float) -> list[Tensor]:
    """The maps moved by -2 to 2 pixels: shifted slices are many times as fast as pooling one channel."""
    length = maps.shape[axis]
    edge = (0, 0, 2, 2) if axis == -2 else (2, 2)
    padded = F.pad(maps, edge, value=beyond)
    return [padded.narrow(axis, k, length) for k in range(5)]
