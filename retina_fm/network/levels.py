"""Between the levels of a picture, 0 to 255, and the values that a network takes and gives, -1 to 1."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_HALF = 127.5


def from_levels(levels: NDArray[np.generic] | Tensor) -> Tensor:
    """Levels of any shape, such as ``uint8``, as float32 in [-1, 1]."""
    values = levels.float() if isinstance(levels, Tensor) else torch.from_numpy(levels.astype(np.float32))
    return values / _HALF - 1


def to_levels(values: Tensor) -> NDArray[np.float32]:
    """Values in [-1, 1] as levels in [0, 255], not rounded yet: what is resized next keeps its fractions."""
    return np.asarray(((values.detach().float().cpu() + 1) * _HALF).numpy())


def to_uint8(values: Tensor) -> NDArray[np.uint8]:
    """Values in [-1, 1] as the nearest whole levels; what lies outside is clipped."""
    return np.asarray(to_levels(values).round().clip(0, 255), np.uint8)
