"""Checks and padding of the tensors that a network takes."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.errors import ViewError, ViewWarning
from retina_fm.network.architecture import STRIDES
from retina_fm.network.masks import OUTSIDE

SMALLEST = 2 * STRIDES[-1]
"""Reflection padding needs two pixels at the coarsest stride."""


_MAKE_ONE = (
    "Make one with: encoder(encoder.transform(photo)); a photo is a path, bytes, an array or a PIL image."
)


def as_batch(view: Tensor) -> Tensor:
    """A single view ``(3, H, W)``, as a transform gives it, as a batch of one; a batch stays."""
    return view[None] if isinstance(view, Tensor) and view.ndim == 3 else view


def check_view(view: Tensor, mask: Tensor | None = None, *, channels: int = 3) -> None:
    """Refuse what the network would fail on later, or worse, would not.

    Raises:
        ViewError: no tensor, wrong rank, channels, type or size, or a mask of another shape or type.
    """
    if not isinstance(view, Tensor):
        raise ViewError(f"The network takes tensors, not {type(view).__name__}. {_MAKE_ONE}")
    if view.ndim != 4 or view.shape[1] != channels:
        swapped = view.ndim in (3, 4) and view.shape[-1] == channels
        raise ViewError(
            f"The view has shape {tuple(view.shape)}; the network takes (N, {channels}, H, W)"
            + (f", channels before rows. {_MAKE_ONE}" if swapped else f". {_MAKE_ONE}")
        )
    if not view.is_floating_point():
        raise ViewError(f"The view has dtype {view.dtype}; the network takes floats in [-1, 1]. {_MAKE_ONE}")
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


def warn_of_levels(view: Tensor) -> bool:
    """Warns of a view whose values lie in [0, 1] or [0, 255]: features of it would be wrong in silence.

    Nothing below 0 in a whole batch means no blood, no dark corner and no outside.

    Returns:
        Whether it could be told: not of a graph that is being traced, nor of a view of one value.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if tracing or view.is_meta or not view.numel():
        return False
    low, high = (float(value) for value in torch.aminmax(view.detach()))
    if low >= 0 and high > max(low, 0.2):
        warnings.warn(
            f"The view has values from {low:.3g} to {high:.3g} and none below 0; the network takes what its "
            f"transform gives, which is scaled otherwise. {_MAKE_ONE}",
            ViewWarning,
            stacklevel=4,
        )
    return low < high


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
