"""Checks and padding of the tensors that a network takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.errors import ViewError
from retina_fm.network.architecture import STRIDES
from retina_fm.network.masks import OUTSIDE

SMALLEST = 2 * STRIDES[-1]
"""Reflection padding needs two pixels at the coarsest stride."""


def check_view(view: Tensor, mask: Tensor | None = None, *, channels: int = 3) -> None:
    """Refuse what the network would fail on later, or worse, would not.

    Raises:
        ViewError: wrong rank, channels, type or size, or a mask of another shape or type.
    """
    if view.ndim != 4 or view.shape[1] != channels:
        raise ViewError(
            f"The view has shape {tuple(view.shape)}; the network takes (N, {channels}, H, W)."
            + (" Add a batch dimension: view[None]." if view.ndim == 3 else "")
        )
    if not view.is_floating_point():
        raise ViewError(
            f"The view has dtype {view.dtype}; the network takes floats in [-1, 1]. Use encoder.transform, "
            "which scales them and finds the field of view."
        )
    if min(view.shape[2:]) < SMALLEST:
        raise ViewError(
            f"The view has {view.shape[2]} x {view.shape[3]} pixels; the network needs at least "
            f"{SMALLEST} a side. Enlarge it, or pad it with -1."
        )
    if mask is not None:
        if mask.shape != (view.shape[0], *view.shape[2:]):
            raise ViewError(
                f"The mask has shape {tuple(mask.shape)}, the view {tuple(view.shape)}; "
                "the mask must be (N, H, W) of the same N, H and W."
            )
        if mask.dtype != torch.bool:
            raise ViewError(f"The mask has dtype {mask.dtype}; it must be bool, True inside.")


def pad_to_stride(view: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Pad right and bottom to a multiple of 16 with what counts as outside the field of view."""
    down, right = (-view.shape[2]) % STRIDES[-1], (-view.shape[3]) % STRIDES[-1]
    if down == 0 and right == 0:
        return view, mask
    padding = (0, right, 0, down)
    return F.pad(view, padding, value=OUTSIDE), F.pad(mask, padding, value=False)


def crop_to(maps: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Cut from a map what only the padding made: ``ceil(height / stride)`` by ``ceil(width / stride)``."""
    return maps[:, :, : -(-height // stride), : -(-width // stride)]
