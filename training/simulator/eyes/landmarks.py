"""Finds the optic disc and the fovea in a photo: bright and where vessels meet; dark and temporal of it.

The disc is the place that is bright at its own size and that wide vessels point to (fuzzy convergence:
Hoover and Goldbaum 2003, IEEE TMI 22:951). The fovea is the darkest vessel-free place about 2.5 disc
diameters temporal and a little below (Sinthanayothin 1999, Br J Ophthalmol 83:902).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.line_filter import blurred

Map = NDArray[np.float32]

_GRID = 128
_DISC_SHARES = (0.125, 0.155, 0.19)  # disc radius in radii of the field: 55, 45 and 35 degree cameras


@dataclass(frozen=True)
class Landmarks:
    """Positions in pixels as (y, x), pixel centres at half-integers.

    Attributes:
        disc: centre of the optic disc.
        disc_radius: its radius, pixels.
        fovea: centre of the fovea; may lie outside the field of view.
    """

    disc: tuple[float, float]
    disc_radius: float
    fovea: tuple[float, float]


def _shrink(image: Map) -> Map:
    zoom = (_GRID / image.shape[0], _GRID / image.shape[1])
    sigma = tuple(0.4 / z for z in zoom)
    smooth = ndimage.gaussian_filter(image, sigma)
    y = (np.arange(_GRID) + 0.5) / zoom[0] - 0.5
    x = (np.arange(_GRID) + 0.5) / zoom[1] - 0.5
    grid = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(smooth, grid, order=1, mode="nearest"), np.float32)


def _convergence(vessels: Map, radius: float) -> Map:
    """Votes of vessel pixels along their own direction, float32 (grid, grid)."""
    smooth = ndimage.gaussian_filter(vessels, 1.0)
    gy, gx = np.gradient(smooth)
    sigma = 0.03 * radius
    jyy, jxx, jxy = (ndimage.gaussian_filter(v, sigma) for v in (gy * gy, gx * gx, gy * gx))
    angle = 0.5 * np.arctan2(2 * jxy, jxx - jyy) + np.pi / 2  # along the line
    strong = np.argwhere(vessels > 0.5)
    votes = np.zeros((_GRID, _GRID), np.float32)
    if not len(strong):
        return votes
    chosen = strong[:: max(1, len(strong) // 2500)]
    direction = angle[chosen[:, 0], chosen[:, 1]]
    weight = vessels[chosen[:, 0], chosen[:, 1]]
    steps = np.linspace(-0.55, 0.55, 57) * radius
    y = chosen[:, 0, None] + steps * np.sin(direction)[:, None]
    x = chosen[:, 1, None] + steps * np.cos(direction)[:, None]
    iy, ix = np.rint(y).astype(int), np.rint(x).astype(int)
    valid = (iy >= 0) & (ix >= 0) & (iy < _GRID) & (ix < _GRID)
    flat = np.bincount(
        (iy * _GRID + ix)[valid], np.broadcast_to(weight[:, None], iy.shape)[valid], _GRID * _GRID
    )
    return np.asarray(flat.reshape(_GRID, _GRID), np.float32)


def _standardised(image: Map, inside: NDArray[np.bool_]) -> Map:
    values = image[inside]
    return np.asarray((image - values.mean()) / (values.std() + 1e-6), np.float32)


def _brightness(photo: NDArray[np.uint8]) -> Map:
    return np.asarray(photo.astype(np.float32) @ np.array([0.35, 0.6, 0.05], np.float32), np.float32)


def find_landmarks(
    photo: NDArray[np.uint8],
    field_of_view: NDArray[np.bool_],
    vessels: Map,
    *,
    disc: Map | None = None,
) -> Landmarks:
    """Finds disc and fovea.

    Args:
        photo: uint8 (S, S, 3), square.
        field_of_view: bool (S, S).
        vessels: coverage float32 (S, S).
        disc: its coverage where it is known; then only the fovea is searched.
    """
    scale = photo.shape[0] / _GRID
    inside = _shrink(field_of_view.astype(np.float32)) > 0.5
    weight = inside.astype(np.float32)
    radius = float(np.sqrt(inside.sum() / np.pi)) * 1.02
    light = _shrink(_brightness(photo))
    small_vessels = np.asarray(_shrink(vessels) * weight, np.float32)
    if disc is not None and disc.max() > 0.5:
        known = _shrink(disc) > 0.5
        centre = np.argwhere(disc > 0.5).mean(0) / scale
        disc_radius = max(float(np.sqrt(max(known.sum(), 1) / np.pi)), 0.08 * radius)
        cy, cx = float(centre[0]), float(centre[1])
    else:
        votes = blurred(_convergence(np.clip(small_vessels * 1.6, 0, 1), radius), weight, 0.07 * radius)
        local = np.asarray(light - blurred(light, weight, 0.4 * radius), np.float32)
        best, score_map, disc_radius = -np.inf, votes, 0.15 * radius
        edge = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        for share in _DISC_SHARES:
            r = share * radius
            blob = blurred(local, weight, 0.5 * r) - blurred(local, weight, 1.6 * r)
            score = 0.8 * _standardised(np.asarray(blob, np.float32), inside) + _standardised(votes, inside)
            score = np.where(inside & (edge > 0.35 * r), score, -np.inf)
            if score.max() > best:
                best, score_map, disc_radius = float(score.max()), score, r
        cy, cx = (float(v) for v in np.unravel_index(int(np.argmax(score_map)), score_map.shape))
        cy, cx = cy + 0.5, cx + 0.5
    fovea = _fovea(light, small_vessels, inside, radius, (cy, cx), disc_radius)
    return Landmarks((cy * scale, cx * scale), disc_radius * scale, (fovea[0] * scale, fovea[1] * scale))


def _fovea(
    light: Map,
    vessels: Map,
    inside: NDArray[np.bool_],
    radius: float,
    disc: tuple[float, float],
    disc_radius: float,
) -> tuple[float, float]:
    """Darkest vessel-free place in the window on either side of the disc, (y, x) in grid pixels."""
    weight = inside.astype(np.float32)
    dark = blurred(light, weight, 0.045 * radius) - blurred(light, weight, 0.28 * radius)
    density = blurred(vessels, weight, 0.06 * radius)
    score = -_standardised(np.asarray(dark, np.float32), inside) - 1.1 * _standardised(density, inside)
    # The rim is dark and without vessels, too, but no fovea lies there.
    edge = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    score = score - 2.5 * np.clip(1 - edge / (0.16 * radius), 0, 1)
    y, x = np.mgrid[:_GRID, :_GRID] + 0.5
    reach = 5.0 * disc_radius
    best, place = -np.inf, (disc[0] + 0.3 * disc_radius, disc[1] + reach)
    middle = np.argwhere(inside).mean(0) + 0.5
    for side in (-1.0, 1.0):
        py, px = disc[0] + 0.55 * disc_radius, disc[1] + side * reach
        away = np.hypot((y - py) / 0.9, x - px) / (1.5 * disc_radius)
        window = np.where(inside & (away < 1.0), score - 0.8 * away**2, -np.inf)
        # The camera is pointed so that the macula is more in the middle than the nasal retina.
        towards = side * (middle[1] - disc[1]) / radius
        value = float(window.max()) + 3.0 * towards
        if np.isfinite(value) and value > best:
            iy, ix = np.unravel_index(int(np.argmax(window)), window.shape)
            best, place = value, (float(iy) + 0.5, float(ix) + 0.5)
    if not np.isfinite(best):
        side = 1.0 if middle[1] >= disc[1] else -1.0
        place = (disc[0] + 0.55 * disc_radius, disc[1] + side * reach)
    return place
