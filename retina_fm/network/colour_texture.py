"""Colour and texture of a view as one more block of the pooled statistics: what no normalised map keeps.

Hue, saturation and value tell cataract, pigment and disc; uniform local binary patterns tell how rough a
picture is. Source of the patterns: Ojala, Pietikainen and Maenpaa (IEEE TPAMI 24:971, 2002).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BINS = 24
_RADII = (1, 3)
_NEIGHBOURS = 8
_STEP = 2  # of the lattice of pixels that are counted: each would cost four times as much and say the same
_PATTERNS = _NEIGHBOURS + 2  # zero to eight brighter neighbours side by side, and all other patterns
LENGTH = 3 * _BINS + len(_RADII) * _PATTERNS
"""Numbers of a view: three histograms of 24 bins, patterns at two radii."""


def colour_texture(view: Tensor, mask: Tensor) -> Tensor:
    """Square roots of the shares of colours and patterns inside the field of view, ``(N, 92)`` float32.

    Square roots (Hellinger), so that what is rare counts.

    Args:
        view: ``(N, 3, H, W)`` in [-1, 1].
        mask: field of view, bool ``(N, H, W)``.
    """
    rgb = ((view.float() + 1) / 2).clamp(0, 1)
    counted = mask[:, ::_STEP, ::_STEP]
    levels = (hue_saturation_value(rgb[..., ::_STEP, ::_STEP]) * _BINS).long().clamp(max=_BINS - 1)
    parts = [_shares(levels[:, channel], counted, _BINS) for channel in range(3)]
    # steps of a level: what float arithmetic leaves of equal pixels is no pattern
    green = (rgb[:, 1] * 255).round()
    parts += [_shares(uniform_patterns(green, radius, _STEP), counted, _PATTERNS) for radius in _RADII]
    return torch.cat(parts, 1).sqrt()


def hue_saturation_value(rgb: Tensor) -> Tensor:
    """The hexagonal colour model, ``(N, 3, H, W)`` in [0, 1] to the same shape and range."""
    high, low = rgb.amax(1), rgb.amin(1)
    spread = high - low
    red, green, blue = rgb.unbind(1)
    safe = spread.clamp_min(1e-6)
    hue = torch.where(
        high == red,
        ((green - blue) / safe).remainder(6),
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return torch.stack([torch.where(spread > 0, hue / 6, 0.0), spread / high.clamp_min(1e-6), high], 1)


def uniform_patterns(grey: Tensor, radius: int, step: int = 1) -> Tensor:
    """Rotation-invariant uniform pattern of each ``step``-th pixel, ``(N, H / step, W / step)``, 0 to 9.

    The number of neighbours that are not darker, where they lie side by side; 9 where they do not.
    """
    height, width = grey.shape[-2:]
    padded = F.pad(grey[:, None], (radius,) * 4, mode="replicate")[:, 0]
    middle = grey[:, ::step, ::step]
    places = [
        (slice(radius + dy, radius + dy + height, step), slice(radius + dx, radius + dx + width, step))
        for dy, dx in _circle(radius)
    ]
    brighter = torch.stack([padded[:, rows, columns] >= middle for rows, columns in places])
    changes = (brighter != brighter.roll(1, 0)).sum(0)
    return torch.where(changes <= 2, brighter.sum(0), _PATTERNS - 1)


@lru_cache(maxsize=4)
def _circle(radius: int) -> tuple[tuple[int, int], ...]:
    """Eight pixels round a pixel, (dy, dx) in order."""
    slant = max(1, round(radius / 2**0.5))
    near = ((-slant, -slant), (-radius, 0), (-slant, slant), (0, radius))
    return (*near, *((-dy, -dx) for dy, dx in near))


def _shares(values: Tensor, mask: Tensor, bins: int) -> Tensor:
    """Share of each value 0 to ``bins - 1`` inside the mask, ``(N, bins)``."""
    weight = mask.flatten(1).float()
    counts = weight.new_zeros(len(values), bins).scatter_add(1, values.flatten(1), weight)
    return counts / weight.sum(1, keepdim=True).clamp_min(1)
