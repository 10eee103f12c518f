"""Coordinates of a picture's pixels, and small grids enlarged to them."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_of(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (y, x) in [-1, 1] that broadcast over (B, C, H, W)."""
    height, width = picture.shape[-2:]
    y = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=picture.device).view(1, 1, -1, 1)
    x = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=picture.device).view(1, 1, 1, -1)
    return y, x


def enlarged(grid: Tensor, height: int, width: int) -> Tensor:
    """A small grid (B, 1, h, w) of random numbers, bicubic at (B, 1, H, W); about as varied as it was."""
    rows, columns = (
        _bicubic(small, large, grid.device)
        for small, large in ((grid.shape[-2], height), (grid.shape[-1], width))
    )
    return rows @ grid @ columns.T


@lru_cache(maxsize=64)
def _bicubic(small: int, large: int, device: torch.device) -> Tensor:
    """Weights (large, small) of bicubic interpolation: products with them take a fraction of its time."""
    unit = torch.eye(small, device=device)[None, None]
    return F.interpolate(unit, (large, small), mode="bicubic", align_corners=False)[0, 0]
