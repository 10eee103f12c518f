"""The lit disc of a fundus photograph, found as a circle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

_WORK_SIDE = 320
"""Longest side of the reduced copy that is searched: milliseconds, and a tenth of a pixel in the fit."""
_LEVELS = (0.2, 0.12, 0.32, 0.06)
"""Thresholds tried, as shares of the way from the surround to the bright part."""
_TRIPLES = 300
_TOLERANCE = 0.015
_MIN_SCORE = 0.62
_STRETCHED_BELOW = 0.96
_GOOD_SCORE = 0.99
"""No other threshold needs to be tried."""
_MIN_CONTRAST = 6.0
_DARK = 0.15  # of the median light: less, from the rim on, is no retina
_BLACK = 8  # of 255: what is darker does not count for that median
_LEAST_LIT = 0.1
_ALL_LIT = 0.98  # of the field, above which the circle fits and is the smoother rim


@dataclass(frozen=True)
class Circle:
    """A circle in picture pixels, pixel centres at half-integers.

    Attributes:
        centre_y: from the top edge.
        centre_x: from the left edge.
        radius: of the lit disc.
    """

    centre_y: float
    centre_x: float
    radius: float


@dataclass(frozen=True)
class _Fit:
    circle: Circle
    score: float


def find_field_of_view(picture: np.ndarray) -> Circle | None:
    """Fit a circle to the lit disc, whether or not the sensor clips it.

    Several thresholds between the surround and the bright part are tried; each gives a region whose outline,
    except where it runs along the frame, is fitted by random sample consensus and least squares. The best
    circle counts if enough of the arc that lies in the frame is seen, and the disc overlaps the region.

    Args:
        picture: ``uint8 (H, W, 3)``.

    Returns:
        The circle, or None where none fits: cropped to the retina, ultra-wide-field, OCT.
    """
    height, width = picture.shape[:2]
    factor = max(1, round(max(height, width) / _WORK_SIDE))
    small = np.asarray(Image.fromarray(picture).reduce(factor))
    best: _Fit | None = None
    for light in _lights(small):
        for region in _regions(light):
            fit = _fit(region, light)
            if fit is not None and (best is None or fit.score > best.score):
                best = fit
            if best is not None and best.score > _GOOD_SCORE:
                break
        if best is not None and best.score >= _MIN_SCORE:
            found = best.circle
            return Circle(found.centre_y * factor, found.centre_x * factor, found.radius * factor)
    return None


def lit_field(view: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The field of view less what is black from its rim on.

    Where a publisher squeezed a picture, the circle that was fitted reaches beyond the lit ellipse; where no
    circle fits, the field is the whole frame. Its rim would be the longest line of all, alike in every such
    picture, and a network paints vessels into the black.

    Args:
        view: ``uint8 (H, W, 3)``.
        inside: its field of view, bool ``(H, W)``.

    Returns:
        bool ``(H, W)``; ``inside`` itself where next to nothing is lit.
    """
    from scipy import ndimage

    light = view.max(axis=2)
    seen = light[inside & (light > _BLACK)]
    if not len(seen):
        return inside
    dark = light < max(_DARK * float(np.median(seen)), _BLACK / 2)
    lit = ~np.asarray(ndimage.binary_propagation(~inside, mask=~inside | dark), np.bool_)
    lit = np.asarray(ndimage.binary_opening(lit, iterations=2), np.bool_)
    return lit if lit.sum() > _LEAST_LIT * inside.sum() else inside


def within_lit(maps: np.ndarray, view: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Maps ``(..., H, W)`` of a view, 0 in the black that :func:`lit_field` takes off its field."""
    lit = lit_field(view, inside)
    return maps if lit.sum() > _ALL_LIT * inside.sum() else maps * lit


def _lights(small: np.ndarray) -> Iterator[np.ndarray]:
    """Brightness above a dark surround; after that, difference from a bright one."""
    yield small.max(axis=2).astype(np.float32)
    edge = max(2, min(small.shape[:2]) // 25)
    corners = np.concatenate(
        [
            small[y, x].reshape(-1, 3)
            for y in (slice(edge), slice(-edge, None))
            for x in (slice(edge), slice(-edge, None))
        ]
    ).astype(np.float32)
    surround = np.median(corners, axis=0)
    if surround.min() > 128 and np.abs(corners - surround).mean() < 12:
        yield np.abs(small.astype(np.float32) - surround).max(axis=2)


def _regions(light: np.ndarray) -> Iterator[np.ndarray]:
    from scipy import ndimage

    dark, bright, brightest = np.percentile(light, [0.5, 80, 96])
    if bright - dark < _MIN_CONTRAST:
        bright = brightest  # a small disc in a wide surround
    if bright - dark < _MIN_CONTRAST:
        return
    cross = ndimage.generate_binary_structure(2, 1)
    for level in _LEVELS:
        lit = light > dark + max(3.0, level * (bright - dark))
        # opening cuts what text, dust and notches hang on the disc
        lit = ndimage.binary_opening(lit, cross, iterations=2)
        labels, found = ndimage.label(lit)
        if not found:
            continue
        largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
        yield ndimage.binary_fill_holes(labels == largest)


def _fit(region: np.ndarray, light: np.ndarray) -> _Fit | None:
    points = _outline(region)
    height, width = region.shape
    if len(points) < 0.15 * min(height, width):
        return None
    centres, radii = _circles_through(points, np.random.Generator(np.random.PCG64(0)))
    plausible = (radii > 0.12 * min(height, width)) & (radii < 1.1 * max(height, width))
    centres, radii = centres[plausible], radii[plausible]
    if not len(radii):
        return None
    distances = np.abs(np.hypot(*(points[None] - centres[:, None]).transpose(2, 0, 1)) - radii[:, None])
    votes = (distances < _TOLERANCE * radii[:, None]).sum(axis=1)
    winner = int(np.argmax(votes))
    centre, radius = _refine(points, centres[winner], float(radii[winner]))
    # outline pixels lie half a pixel inside the edge that they mark
    circle = Circle(float(centre[0]), float(centre[1]), radius + 0.5)
    fit = _Fit(circle, _agreement(circle, region, points, light))
    overlap = _overlap(_disc(circle, region.shape), region)
    if overlap < _STRETCHED_BELOW:
        stretched = _ellipse_overlap(points, region)
        if stretched > max(0.95, overlap + 0.02):
            return _Fit(_enclosing(region), stretched)
    return fit


def _ellipse_overlap(points: np.ndarray, region: np.ndarray) -> float:
    """How well an upright ellipse explains the region: some publishers resized pictures to a square."""
    scale = float(max(region.shape))
    middle = points.mean(axis=0) / scale  # far from it, the fit of a conic through the origin is unstable
    near = points / scale - middle
    for _ in range(3):
        design = np.column_stack([near**2, near])
        a, b, c, d = np.linalg.lstsq(design, np.ones(len(near)), rcond=None)[0]
        if a <= 0 or b <= 0 or not 0.25 <= a / b <= 4:  # axes beyond 1 to 2: a strip, not a stretched disc
            return 0.0
        residual = np.abs(design @ [a, b, c, d] - 1)
        near = near[residual <= np.quantile(residual, 0.9)]
    rows = (np.arange(region.shape[0])[:, None] + 0.5) / scale - middle[0]
    columns = (np.arange(region.shape[1])[None, :] + 0.5) / scale - middle[1]
    ellipse = a * rows**2 + b * columns**2 + c * rows + d * columns <= 1
    return _overlap(ellipse, region)


def _enclosing(region: np.ndarray) -> Circle:
    """The circle round the middle of the region that holds all of it."""
    places = np.argwhere(region) + 0.5
    centre = (places.min(axis=0) + places.max(axis=0)) / 2
    return Circle(float(centre[0]), float(centre[1]), float(np.hypot(*(places - centre).T).max()))


def _disc(circle: Circle, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None, :] + 0.5
    disc: np.ndarray = (rows - circle.centre_y) ** 2 + (columns - circle.centre_x) ** 2 <= circle.radius**2
    return disc


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _outline(region: np.ndarray) -> np.ndarray:
    """Centres ``(P, 2)`` of the region's border pixels that do not lie along the frame."""
    from scipy import ndimage

    border = region & ~ndimage.binary_erosion(region, border_value=1)
    border[:2] = border[-2:] = False
    border[:, :2] = border[:, -2:] = False
    return np.argwhere(border) + 0.5


def _circles_through(points: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Circles through random triples of points: centres ``(K, 2)`` and radii ``(K,)``."""
    a, b, c = points[random.integers(len(points), size=(3, _TRIPLES))]
    ab, ac = b - a, c - a
    cross = 2 * (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    usable = np.abs(cross) > 1e-6
    ab, ac, a, cross = ab[usable], ac[usable], a[usable], cross[usable]
    ab2, ac2 = (ab**2).sum(1), (ac**2).sum(1)
    offset = np.stack(
        [(ac[:, 1] * ab2 - ab[:, 1] * ac2) / cross, (ab[:, 0] * ac2 - ac[:, 0] * ab2) / cross], axis=1
    )
    return a + offset, np.hypot(offset[:, 0], offset[:, 1])


def _refine(points: np.ndarray, centre: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """Least squares over the points near the circle, repeated as the circle settles."""
    for share in (2 * _TOLERANCE, _TOLERANCE, _TOLERANCE, 0.7 * _TOLERANCE):
        distance = np.hypot(*(points - centre).T)
        near = points[np.abs(distance - radius) < max(1.0, share * radius)]
        if len(near) < 12:
            break
        design = np.column_stack([2 * near, np.ones(len(near))])
        solution = np.linalg.lstsq(design, (near**2).sum(1), rcond=None)[0]
        centre = solution[:2]
        radius = float(np.sqrt(max(1e-6, solution[2] + (centre**2).sum())))
    return centre, radius


def _agreement(circle: Circle, region: np.ndarray, points: np.ndarray, light: np.ndarray) -> float:
    """How well the disc explains region and outline, in [0, 1]."""
    height, width = region.shape
    disc = _disc(circle, region.shape)
    overlap = _overlap(disc, region)

    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    ring_y = circle.centre_y + circle.radius * np.sin(angles)
    ring_x = circle.centre_x + circle.radius * np.cos(angles)
    visible = (ring_y > 2) & (ring_y < height - 2) & (ring_x > 2) & (ring_x < width - 2)
    if visible.sum() < 14:  # less than a twelfth of the arc is no evidence
        return 0.0
    distance = np.hypot(points[:, 0] - circle.centre_y, points[:, 1] - circle.centre_x)
    on = points[np.abs(distance - circle.radius) < max(1.5, 1.5 * _TOLERANCE * circle.radius)]
    seen = np.zeros(180, bool)
    turn = np.arctan2(on[:, 0] - circle.centre_y, on[:, 1] - circle.centre_x) % (2 * np.pi)
    seen[(turn / (2 * np.pi) * 180).astype(int) % 180] = True
    arc = (seen & visible).sum() / visible.sum()

    # outside the disc there must be a surround: darker, and nearly empty
    outside = ~disc
    if outside.sum() < 0.01 * outside.size:
        return 0.0
    if np.median(light[outside]) > 0.6 * np.median(light[disc]):
        return 0.0
    return float(overlap * min(1.0, arc / 0.8))
