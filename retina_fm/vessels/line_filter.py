"""Lines in a picture: a classical multi-scale filter, no learning, no network. Never imports torch.

Elongated second derivatives of Gaussians (matched filters: Chaudhuri 1989, IEEE TMI 8:263) are taken at
several widths and directions, and the strongest response against the local noise is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from retina_fm.vessels.smoothing import smoothed

Map = NDArray[np.float32]

_DIRECTIONS = 12
_BLOB = 0.5
_ROUNDING = 2e-5  # of density: a blank picture has nothing else, and lines are measured by its noise
# Widths (standard deviation of the profile) as shares of the field's radius, elongation, and weight.
_WIDTHS = ((0.0045, 3.2, 0.9), (0.0075, 2.8, 1.0), (0.0125, 2.4, 0.9))


def blurred(image: Map, inside: Map, sigma: float) -> Map:
    """Gaussian mean over pixels inside the field of view only (normalised convolution)."""
    return blurred_all([image], inside, sigma)[0]


def blurred_all(images: Sequence[Map], inside: Map, sigma: float) -> list[Map]:
    """``blurred`` of several pictures of one field of view, whose own blur is taken once."""
    step = max(1, int(sigma / 4))
    parts = [inside, *(image * inside for image in images)]
    if step > 1:
        parts = [_reduce(part, step) for part in parts]
    bottom, *tops = (smoothed(part, sigma / step) for part in parts)
    weight: Map = np.maximum(bottom, np.float32(1e-4))
    means: list[Map] = [np.asarray(top / weight, np.float32) for top in tops]
    return [_enlarge(mean, inside.shape, step) for mean in means] if step > 1 else means


def _reduce(image: Map, step: int) -> Map:
    height, width = image.shape
    padded = np.pad(image, ((0, -height % step), (0, -width % step)), mode="edge")
    return np.asarray(padded.reshape(padded.shape[0] // step, step, -1, step).mean((1, 3)), np.float32)


def _enlarge(image: Map, shape: tuple[int, ...], step: int) -> Map:
    (above, below, down), (left, right, over) = (
        _between(there, length, step) for there, length in zip(image.shape, shape, strict=True)
    )
    rows = image[above] + (image[below] - image[above]) * down[:, None]
    return np.asarray(rows[:, left] + (rows[:, right] - rows[:, left]) * over, np.float32)


def _between(there: int, length: int, step: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Map]:
    """Which two of the small picture's pixels each of the large one lies between, and how near the second."""
    at = np.clip((np.arange(length) + 0.5) / step - 0.5, 0, there - 1)
    first = at.astype(np.intp)
    return first, np.minimum(first + 1, there - 1), np.asarray(at - first, np.float32)


def flatten(photo: NDArray[np.uint8], field_of_view: NDArray[np.bool_], radius: float) -> Map:
    """Green absorbance without illumination, in units of its local spread; 0 outside the field of view.

    Args:
        photo: uint8 (H, W, 3).
        field_of_view: bool (H, W).
        radius: of the field of view in pixels.
    """
    inside = field_of_view.astype(np.float32)
    weights = np.array([0.12, 0.78, 0.10], np.float32)
    light = photo.astype(np.float32) @ weights + 4.0
    density = -np.log(light)
    # The field's edge is a cliff: beyond it the picture goes on as its own local mean.
    background = blurred(density, inside, 0.075 * radius)
    flat = (density - background) * inside
    flat[np.abs(flat) < _ROUNDING] = 0.0
    spread = np.sqrt(blurred(np.minimum(flat**2, 0.09), inside, 0.22 * radius)) + 1e-3
    return np.asarray(flat / spread * inside, np.float32)


@lru_cache(maxsize=8)
def _bank(height: int, width: int, radius: float) -> tuple[tuple[float, NDArray[np.complex64]], ...]:
    """Transfer functions of all filters, as (weight, (directions, H, W/2 + 1))."""
    fy = (2 * np.pi * fft.fftfreq(height)).astype(np.float32)[:, None]
    fx = (2 * np.pi * fft.rfftfreq(width)).astype(np.float32)[None, :]
    bank = []
    for share, elongation, weight in _WIDTHS:
        sigma = max(share * radius, 0.75)
        filters = []
        for angle in np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS:
            across = fx * np.cos(angle) + fy * np.sin(angle)
            along = fy * np.cos(angle) - fx * np.sin(angle)
            shape = np.exp(-0.5 * sigma**2 * (across**2 + (elongation * along) ** 2)) * (sigma * across) ** 2
            filters.append(shape.astype(np.float32))
        bank.append((weight, np.stack(filters)))
    return tuple(bank)


def line_strength(
    flat: Map,
    field_of_view: NDArray[np.bool_],
    radius: float,
    *,
    disc: tuple[float, float, float] | None = None,
) -> Map:
    """How much each pixel looks like the middle of a dark line, in units of the picture's noise; (H, W).

    Args:
        flat: from ``flatten``.
        field_of_view: bool (H, W).
        radius: of the field of view in pixels.
        disc: centre (y, x) and radius of the optic disc where they are known; lines along
            its rim are left out.
    """
    height, width = flat.shape
    shape = (fft.next_fast_len(height + 32, real=True), fft.next_fast_len(width + 32, real=True))
    padded = np.zeros(shape, np.float32)
    padded[:height, :width] = np.clip(flat, -1.0, 3.5)
    spectrum = fft.rfft2(padded)
    total = np.zeros((height, width), np.float32)
    edge = ndimage.distance_transform_edt(np.pad(field_of_view, 1))[1:-1, 1:-1].astype(np.float32)
    # The rim of the aperture is a line itself, and vessels seldom run along it.
    parallel = _along(edge, edge < 0.07 * radius)
    if disc is not None:
        y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
        away = np.hypot(y - disc[0], x - disc[1]) / disc[2]
        parallel |= _along(np.asarray(away * disc[2], np.float32), (away > 0.7) & (away < 1.3))
    for weight, filters in _bank(*shape, float(radius)):
        responses = np.stack([fft.irfft2(spectrum * f, s=shape)[:height, :width] for f in filters])
        # A blob answers in every direction, a line only along itself.
        crosswise = np.clip(np.roll(responses, _DIRECTIONS // 2, axis=0), 0, None)
        responses -= np.float32(_BLOB) * crosswise
        responses[parallel] = 0
        best = responses.max(0)
        noise = np.median(np.abs(best[field_of_view])) + 1e-6
        total = np.maximum(total, np.float32(weight) * best / noise)
    return np.asarray(total * np.clip((edge - 0.004 * radius) / (0.01 * radius), 0, 1), np.float32)


def _along(distance: Map, near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where, inside ``near``, a line of each direction would follow a rim: (directions, H, W).

    ``distance`` is measured from the rim, so that its gradient is across it.
    """
    gy, gx = np.gradient(ndimage.gaussian_filter(distance, 2.0))
    norm = np.hypot(gy, gx) + 1e-6
    angles = np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS
    return np.stack([near & (np.abs(np.cos(a) * gx + np.sin(a) * gy) / norm > 0.75) for a in angles])


def strength_to_coverage(strength: Map, field_of_view: NDArray[np.bool_]) -> Map:
    """Turns line strength into coverage; vessels take about 12 per cent of the field of view."""
    inside = strength[field_of_view]
    middle, high = np.quantile(inside, [0.875, 0.96])
    soft = 1.0 / (1.0 + np.exp(-(strength - middle) / max(0.22 * (high - middle), 1e-6)))
    strong = strength > middle
    labels, count = ndimage.label(strong, np.ones((3, 3)))
    if count:
        sizes = ndimage.sum_labels(strong, labels, np.arange(count + 1))
        small = sizes < 0.00035 * field_of_view.sum()
        small[0] = False
        soft = np.where(small[labels], soft * 0.25, soft)
    return np.asarray(np.clip(soft, 0, 1) * field_of_view, np.float32)
