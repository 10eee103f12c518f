"""What the line filter says without any learning: dark lines of a view as one more map, vessels of a photo.

Blood absorbs green light, so vessels are dark lines in the green channel. The picture's illumination is
divided out, and the line filter finds what is long and thin.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from retina_fm.vessels.line_filter import Map, flatten, line_strength, strength_to_coverage

_STRONG = 8.0  # times the noise: a clear vessel
_ROUNDED = 8.0  # pixels of radius that share a bank of filters


def line_maps(views: Tensor) -> Tensor:
    """Strength of dark lines ``float32 (N, 1, S, S)``, about 1 in clear vessels, of views in [0, 1].

    Args:
        views: ``(N, 3, S, S)``, 0 outside the field of view.
    """
    pixels = (views.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    found = [_lines(one) for one in pixels.permute(0, 2, 3, 1).cpu().numpy()]
    return torch.from_numpy(np.stack(found))[:, None].to(views.device)


def _lines(view: np.ndarray) -> np.ndarray:
    inside = np.asarray(ndimage.binary_fill_holes(view.any(axis=2)), bool)
    if not inside.any():
        return np.zeros(view.shape[:2], np.float32)
    reach = max(int(np.ptp(np.flatnonzero(inside.any(axis)))) + 1 for axis in (0, 1)) / 2
    radius = max(_ROUNDED, round(reach / _ROUNDED) * _ROUNDED)
    strength = line_strength(flatten(view, inside, radius), inside, radius)
    return np.asarray(np.clip(strength / _STRONG, 0, 2), np.float32)


def vessel_coverage(
    photo: NDArray[np.uint8],
    field_of_view: NDArray[np.bool_],
    radius: float,
    *,
    disc: tuple[float, float, float] | None = None,
) -> Map:
    """Estimated coverage by vessels, float32 (H, W) in [0, 1].

    Args:
        photo: uint8 (H, W, 3).
        field_of_view: bool (H, W).
        radius: of the field of view, pixels.
        disc: centre (y, x) and radius of the optic disc where they are known.

    Returns:
        A soft estimate: near 1 inside clear vessels, between where the picture leaves doubt.
    """
    flat = flatten(photo, field_of_view, radius)
    strength = line_strength(flat, field_of_view, radius, disc=disc)
    return strength_to_coverage(strength, field_of_view) * _beside_bright_spots(flat, radius, disc)


def _beside_bright_spots(flat: Map, radius: float, disc: tuple[float, float, float] | None) -> Map:
    """Factor below 1 where dark lines are gaps between bright spots (exudates), not vessels."""
    spots = ndimage.gaussian_filter(np.clip(-flat - 2.6, 0, 3), 0.004 * radius)
    if disc is None:
        return np.ones_like(flat)  # the disc itself is the brightest spot
    y, x = np.mgrid[: flat.shape[0], : flat.shape[1]] + 0.5
    spots *= np.hypot(y - disc[0], x - disc[1]) > 1.6 * disc[2]
    around = ndimage.gaussian_filter(ndimage.maximum_filter(spots, int(0.03 * radius) * 2 + 1), 0.01 * radius)
    return np.asarray(1 - 0.85 * np.clip(around / 0.8, 0, 1), np.float32)
