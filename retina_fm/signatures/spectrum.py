"""A vessel map as a spectrum on angles and log radii: what shifts do not change, and turns only roll.

The magnitude of the Fourier transform does not see where a pattern lies. Read on half a turn of angles and
on radii in geometric steps, a turned picture is the same spectrum rolled along the angles, a zoomed one
rolled along the radii (Reddy and Chatterji 1996, IEEE TIP 5:1266). The Fourier transform along the angles
makes the first roll a change of phase, so that it is exact whatever is kept of the harmonics.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from retina_fm.signatures.vessel_maps import SIDE

ANGLES, RADII = 64, 32
HARMONICS = ANGLES // 2 - 1
"""Of the angles, from 1 on: the mean over them is taken off, for it tells cameras apart rather than eyes."""
LOWEST, HIGHEST = 3.0, 60.0
"""Radii, in cycles a view."""
_BLUR, _RIM = 2.0, 8.0
_PADDED = 2 * SIDE  # between whole cycles a view a magnitude cannot be interpolated
_GAIN = 0.1


def harmonics(vessels: NDArray[np.float32], field: NDArray[np.bool_]) -> NDArray[np.complex64]:
    """Harmonics 1 to 31 of a map's spectrum along the angles, ``(RADII, HARMONICS)`` of length one.

    Args:
        vessels: ``(SIDE, SIDE)`` in [0, 1].
        field: of view; its rim must not become part of the pattern.

    Returns:
        Zeros for an empty map.
    """
    inside = field.astype(np.float32)
    weight = np.clip(2 * ndimage.gaussian_filter(inside, _RIM, mode="constant") - 1, 0, 1)
    soft = ndimage.gaussian_filter(vessels * inside, _BLUR, mode="constant")
    pattern = (soft - (soft * weight).sum() / max(float(weight.sum()), 1.0)) * weight
    spectrum = np.log1p(_GAIN * np.abs(fft.rfft2(pattern, s=(_PADDED, _PADDED))))
    grid = ndimage.map_coordinates(spectrum, _places(), order=1, mode="grid-wrap").reshape(RADII, ANGLES)
    found = fft.rfft(grid, axis=1)[:, 1 : HARMONICS + 1]
    length = float(np.sqrt(np.square(np.abs(found)).sum()))
    return np.asarray(found / length if length > 0 else np.zeros_like(found), np.complex64)


@lru_cache(maxsize=1)
def _places() -> NDArray[np.float32]:
    """Rows and columns of the half spectrum, ``(2, RADII * ANGLES)``."""
    radii = np.geomspace(LOWEST, HIGHEST, RADII)[:, None] * (_PADDED / SIDE)
    angles = np.arange(ANGLES)[None] * np.pi / ANGLES
    x, y = radii * np.cos(angles), radii * np.sin(angles)
    x, y = np.abs(x), np.where(x < 0, -y, y)  # the other half is its mirror
    return np.stack([(y % _PADDED).ravel(), x.ravel()]).astype(np.float32)
