"""Smooth random fields: the raw material of choroid, pigment, illumination and film grain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, size: int, wavelength: float) -> Map:
    """Gaussian noise of one scale, zero mean and unit variance, float32 (size, size).

    Args:
        rng: source of randomness.
        size: side in pixels.
        wavelength: smallest structure in pixels; coarse fields are drawn small and enlarged by cubic splines.
    """
    coarse = max(4, int(np.ceil(2.0 * size / max(wavelength, 2.0))) + 4)
    if coarse >= size:
        field = ndimage.gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), wavelength / 4)
    else:
        seed = rng.standard_normal((coarse, coarse)).astype(np.float32)
        at = np.linspace(1.5, coarse - 2.5, size, dtype=np.float32)
        rows = ndimage.zoom(seed, 1)  # a copy that the splines may use
        field = ndimage.map_coordinates(rows, np.meshgrid(at, at, indexing="ij"), order=3, mode="nearest")
    field = field.astype(np.float32)
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


def cloud(
    rng: np.random.Generator, size: int, coarsest: float, octaves: int = 4, roughness: float = 0.55
) -> Map:
    """Noise with structure at several scales (1/f-like), zero mean and unit variance."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        total += np.float32(roughness**octave) * smooth_noise(rng, size, coarsest / 2**octave)
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def choroidal_vessels(rng: np.random.Generator, size: int, width: float, y: Map, x: Map) -> Map:
    """A mesh of broad, winding bright bands (choroidal vessels) between dark pigment, in [0, 1].

    Bands are the zero crossings of noise that is stretched along a slowly turning direction.

    Args:
        rng: source of randomness.
        size: side in pixels.
        width: breadth of a band in pixels.
        y: rows of the pixels, warped or not, float32 (size, size).
        x: columns of the pixels.
    """
    bend = smooth_noise(rng, size, size * 0.7)
    angle = rng.uniform(0, np.pi) + 0.7 * bend
    warp_y, warp_x = smooth_noise(rng, size, 9 * width), smooth_noise(rng, size, 9 * width)
    across = (x + 1.6 * width * warp_x) * np.sin(angle) - (y + 1.6 * width * warp_y) * np.cos(angle)
    mesh = smooth_noise(rng, size, 6.5 * width)
    other = smooth_noise(rng, size, 9.0 * width)
    bands = np.abs(0.7 * mesh + 1.1 * np.sin(across * (np.pi / (3.2 * width))))
    bands = np.minimum(bands, np.abs(other))
    return np.asarray(ndimage.gaussian_filter(np.exp(-((bands / 0.5) ** 2)), 0.22 * width), np.float32)
