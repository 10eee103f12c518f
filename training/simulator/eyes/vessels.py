"""Vessels of a photo without labels: a classical multi-scale line filter, no learning, no network.

Blood absorbs green light, so vessels are dark lines in the green channel. The picture's illumination is
divided out, and the line filter finds what is long and thin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.line_filter import Map, flatten, line_strength, strength_to_coverage


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
