"""Fields of view as masks: found in a view, and brought to the stride of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OUTSIDE = -1.0
"""Value of every channel of a view outside the field of view."""


def field_of_view(view: Tensor) -> Tensor:
    """Bool ``(N, H, W)`` of the pixels of a view ``(N, 3, H, W)`` that are not -1 in all channels.

    A view without any such pixel counts as seen in full.
    """
    return whole_if_empty((view != OUTSIDE).any(1))


def mask_at_stride(mask: Tensor, stride: int) -> Tensor:
    """Bool ``(N, H, W)`` to ``(N, H / stride, W / stride)``: True where the whole block lies inside."""
    if stride == 1:
        return mask
    outside = (~mask).to(torch.float32)[:, None]
    return whole_if_empty(F.max_pool2d(outside, stride)[:, 0] < 0.5)


def without_rim(mask: Tensor, width: int) -> Tensor:
    """Bool ``(N, H, W)`` less what lies within ``width`` rows and columns of its edge or of the picture's."""
    outside = F.pad((~mask).to(torch.float32)[:, None], (width,) * 4, value=1.0)
    return F.max_pool2d(outside, 2 * width + 1, 1)[:, 0] < 0.5


def whole_if_empty(mask: Tensor) -> Tensor:
    """The mask, or all True for those of its pictures that have nothing inside."""
    return mask | ~mask.any(dim=(-2, -1), keepdim=True)
