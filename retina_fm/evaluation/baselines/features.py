"""Hand-made features of a photograph: colour and texture, and bare pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.pictures import Transform

Vector = NDArray[np.float32]
_SIZE = 512
_COLOURS = (16, 8, 8)


def colour_texture(path: Path) -> Vector:
    """Histograms of hue, saturation, value and of uniform local binary patterns at radii 1 to 8: ``(536,)``.

    Both are taken over the inner half of the field of view's area and over the outer half, and enter as
    square roots of shares (Hellinger), so that rare colours and patterns count.

    Source of the patterns: Ojala, Pietikainen, Maenpaa (IEEE TPAMI 2002).
    """
    view, geometry = Transform(size=_SIZE).view(path)
    inside = geometry.mask_in_view()
    y, x = np.mgrid[:_SIZE, :_SIZE] + 0.5
    inner = np.hypot(y - _SIZE / 2, x - _SIZE / 2) < 0.35 * _SIZE
    parts = []
    hsv = _hsv(view)
    green = view[..., 1].astype(np.float32)
    for region in (inside & inner, inside & ~inner):
        for channel, bins in enumerate(_COLOURS):
            parts.append(_shares(np.minimum((hsv[..., channel] * bins).astype(int), bins - 1), region, bins))
        parts += [_shares(_patterns(green, radius), region, 59) for radius in (1, 2, 4, 8)]
    return np.asarray(np.sqrt(np.concatenate(parts)), np.float32)


def thumbnail(path: Path) -> Vector:
    """The pixels of a 32 x 32 view, ``(3072,)`` in [0, 1]."""
    view, _ = Transform(size=32).view(path)
    return np.asarray(view / 255, np.float32).ravel()


BASELINES: dict[str, tuple[Callable[[Path], Vector], int, str]] = {
    "colour-texture": (colour_texture, 2, "colour histogram and local binary patterns"),
    "thumbnail": (thumbnail, 1, "pixels of a 32 x 32 view"),
}
"""By name: the function, its version, what it is."""


def _shares(values: NDArray[Any], region: NDArray[np.bool_], bins: int) -> NDArray[Any]:
    counts = np.bincount(values[region], minlength=bins)[:bins]
    return np.asarray(counts / max(int(region.sum()), 1))


def _hsv(view: NDArray[np.uint8]) -> NDArray[Any]:
    rgb = view.astype(np.float32) / 255
    high, low = rgb.max(-1), rgb.min(-1)
    spread = high - low
    red, green, blue = np.moveaxis(rgb, -1, 0)
    safe = np.maximum(spread, 1e-6)
    hue = np.where(
        high == red,
        (green - blue) / safe % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.stack([np.where(spread > 0, hue / 6, 0), spread / np.maximum(high, 1e-6), high], -1)


def _patterns(grey: NDArray[np.float32], radius: int) -> NDArray[np.int64]:
    """Number of each pixel's uniform pattern of eight neighbours at a distance, 58 for all other patterns."""
    padded = np.pad(grey, radius, mode="edge")
    h, w = grey.shape
    code = np.zeros(grey.shape, np.int64)
    for bit, (dy, dx) in enumerate(((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))):
        neighbour = padded[radius * (1 + dy) :, radius * (1 + dx) :][:h, :w]
        code |= (neighbour >= grey).astype(np.int64) << bit
    return _UNIFORM[code]


def _uniform_table() -> NDArray[np.int64]:
    table, number = np.full(256, 58, np.int64), 0
    for code in range(256):
        bits = [code >> i & 1 for i in range(8)]
        if sum(bits[i] != bits[i - 1] for i in range(8)) <= 2:
            table[code], number = number, number + 1
    return table


_UNIFORM = _uniform_table()
