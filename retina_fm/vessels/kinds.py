"""Arteries and veins told apart along the vessels that hold them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float32]


def artery_share(artery: Map, vein: Map, vessels: Map) -> Map:
    """How much of each vessel is artery, 0 to 1: the mean along it, for a vessel does not change its kind.

    Args:
        artery: probability of arteries, float32 (S, S).
        vein: of veins, likewise.
        vessels: coverage, float32 (S, S).
    """
    weight = vessels + 1e-4
    along = [ndimage.gaussian_filter(part * weight, 2.0) for part in (artery, vein)]
    total = along[0] + along[1]
    return np.asarray(np.where(total > 1e-5, along[0] / np.maximum(total, 1e-5), 0.5), np.float32)
