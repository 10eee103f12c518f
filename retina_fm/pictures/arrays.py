"""Arrays and tensors of any accepted type to ``uint8 (H, W, 3)``."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from retina_fm.errors import PictureError
from retina_fm.pictures.depth import narrowed
from retina_fm.pictures.limits import SMALLEST

_SLACK = 1e-3
"""By how much floats may leave [0, 1]: the rounding and overshoot of a resize, not another scale."""


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def tensor_to_array(tensor: Any, name: str) -> np.ndarray:
    """A tensor ``(3, H, W)`` or ``(1, H, W)`` as an array ``(H, W, C)``.

    Raises:
        PictureError: another rank.
    """
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise PictureError(f"{name}: a tensor must be (3, H, W) or (1, H, W); permute it, or use NumPy.")
    values = tensor.detach().cpu()
    if values.dtype not in (sys.modules["torch"].uint8, sys.modules["torch"].uint16):
        if not values.is_floating_point():
            raise PictureError(f"{name}: dtype {values.dtype}; use uint8, uint16 or floats in [0, 1].")
        values = values.float()  # NumPy has no bfloat16
    return np.moveaxis(values.numpy(), 0, -1)


def array_to_picture(array: np.ndarray, name: str, bits: int | None = None) -> np.ndarray:
    """An array ``(H, W)`` or ``(H, W, 1|3|4)`` as a picture.

    ``uint16`` is divided by 257, unless its largest value shows that it has 8, 10 or 12 bits; floats must
    lie in [0, 1]; a fourth channel is alpha, over black.

    Args:
        array: the picture.
        name: of it, for messages.
        bits: that its whole numbers have, where that is known.

    Raises:
        PictureError: wrong rank, channels, type or range, not finite, too small, or blank.
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise PictureError(
            f"{name}: shape {array.shape}; one picture is (H, W) or (H, W, 1, 3 or 4). "
            "Many pictures are (N, H, W, 3)."
        )
    if min(array.shape[:2]) < 1:
        raise PictureError(f"{name}: it has no pixels (shape {array.shape}).")
    values = _to_uint8(array, name, bits)
    if values.shape[2] == 4:
        alpha = values[:, :, 3:].astype(np.uint16)
        values = ((values[:, :, :3] * alpha + 127) // 255).astype(np.uint8)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return checked(np.ascontiguousarray(values), name)


def checked(picture: np.ndarray, name: str) -> np.ndarray:
    """The picture itself, unless nobody could see anything in it.

    Raises:
        PictureError: fewer than 32 pixels a side, or every pixel equal.
    """
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        raise PictureError(
            f"{name}: {width} x {height} pixels; at least {SMALLEST} a side are needed. Use the original."
        )
    # every 64th pixel first: hardly any picture needs the full look
    if (picture[::8, ::8] == picture[0, 0]).all() and (picture == picture[0, 0]).all():
        raise PictureError(f"{name}: blank, every pixel is {tuple(picture[0, 0].tolist())}. Leave it out.")
    return picture


def _to_uint8(array: np.ndarray, name: str, bits: int | None) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        if array.shape[2] == 4:  # alpha is whole where the colours use a few bits
            return np.dstack([narrowed(array[..., :3], bits), narrowed(array[..., 3:], bits)])
        return narrowed(array, bits)
    if array.dtype.kind != "f":
        raise PictureError(f"{name}: dtype {array.dtype}; use uint8, uint16 or floats in [0, 1].")
    if not np.isfinite(array).all():
        raise PictureError(f"{name}: it holds NaN or infinity. Replace them before encoding.")
    low, high = float(array.min()), float(array.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise PictureError(
            f"{name}: floats from {low:.3g} to {high:.3g}; they must lie in [0, 1]. "
            "Scale them, or pass uint8 or uint16."
        )
    return np.rint(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8)
