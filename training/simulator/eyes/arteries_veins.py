"""Splits vessels into arteries and veins by colour, calibre and connection, and keeps the doubt.

Veins are darker (most so in red light), wider and without a bright streak (Kondermann 2007, Proc SPIE
6512; Grisan and Ruggeri 2003, EMBC). Each vessel segment gets a score from its own pixels against segments
of like calibre in the same picture; scores then spread along the tree to segments that continue each
other. The result is soft: coverage is shared between arteries and veins by probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.errors import MissingDependencyError
from retina_fm.vessels.line_filter import blurred

Map = NDArray[np.float32]
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class _Segments:
    """Skeleton pieces between junctions: label map (1..n), how long and wide each is, and who meets whom."""

    labels: NDArray[np.int32]
    length: NDArray[np.float64]
    width: NDArray[np.float64]
    links: NDArray[np.float64]  # (m, 3): first, second, weight


def _skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    try:
        from skimage.morphology import skeletonize
    except ImportError as error:
        raise MissingDependencyError(
            "Splitting vessels into arteries and veins needs scikit-image, which is not installed. "
            "Install it with: pip install scikit-image (or '.[train]' in a checkout)"
        ) from error
    thin: NDArray[np.bool_] = np.asarray(skeletonize(mask), dtype=np.bool_)  # type: ignore[no-untyped-call, unused-ignore]
    return thin


def _links(
    pieces: NDArray[np.int32], junctions: NDArray[np.int32], count: int, width: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pairs of segments that meet at a junction; near 1 where one continues the other straight on."""
    places = ndimage.find_objects(junctions)
    found = []
    height, breadth = pieces.shape
    for index, place in enumerate(places[:count], start=1):
        if place is None:
            continue
        y0, y1 = max(place[0].start - 6, 0), min(place[0].stop + 6, height)
        x0, x1 = max(place[1].start - 6, 0), min(place[1].stop + 6, breadth)
        here = pieces[y0:y1, x0:x1]
        at = np.argwhere(junctions[y0:y1, x0:x1] == index).mean(0)
        ids = [int(i) for i in np.unique(here) if i]
        arms = []
        for i in ids:
            points = np.argwhere(here == i)
            away = points - at
            distance = np.hypot(away[:, 0], away[:, 1])
            if distance.min() > 3.5:
                continue
            mean = away[distance < 7].mean(0)
            arms.append((i, mean / (np.hypot(*mean) + 1e-6)))
        for a in range(len(arms)):
            for b in range(a + 1, len(arms)):
                straight = -float(arms[a][1] @ arms[b][1])
                like = min(width[arms[a][0]], width[arms[b][0]]) / max(
                    width[arms[a][0]], width[arms[b][0]], 1e-6
                )
                weight = 1.0 / (1.0 + np.exp(-(straight - 0.55) / 0.15)) * (0.4 + 0.6 * like)
                if len(arms) == 3:
                    weight = max(weight, 0.35)
                found.append((arms[a][0], arms[b][0], weight))
    return np.array(found, float).reshape(-1, 3)


def _segments(mask: NDArray[np.bool_]) -> _Segments:
    skeleton = _skeleton(mask)
    neighbours = ndimage.convolve(skeleton.astype(np.int8), np.ones((3, 3), np.int8), mode="constant") - 1
    crossing = ndimage.binary_dilation(skeleton & (neighbours >= 3), _EIGHT) & skeleton
    pieces, count = ndimage.label(skeleton & ~crossing, _EIGHT)
    junctions, junction_count = ndimage.label(crossing, _EIGHT)
    half = ndimage.distance_transform_edt(mask)
    numbers = np.arange(count + 1)
    length = np.asarray(ndimage.sum_labels(np.ones_like(half), pieces, numbers), float)
    width = np.asarray(ndimage.mean(half, pieces, numbers), float)
    width[0], length[0] = 1.0, 0.0
    width = np.nan_to_num(width, nan=1.0)
    links = _links(pieces.astype(np.int32), junctions.astype(np.int32), junction_count, width)
    return _Segments(pieces.astype(np.int32), length, width, links)


def _residual(
    value: NDArray[np.float64], width: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What is left of ``value`` after its dependence on calibre, in robust units."""
    basis = np.stack([np.ones_like(width), np.log(width + 0.3), np.log(width + 0.3) ** 2], 1)
    root = np.sqrt(weight)[:, None]
    fit, *_ = np.linalg.lstsq(basis * root, value * root[:, 0], rcond=None)
    rest = value - basis @ fit
    return np.asarray(rest / (np.sqrt((weight * rest**2).sum() / weight.sum()) + 1e-6))


def artery_probability(
    photo: NDArray[np.uint8], field_of_view: NDArray[np.bool_], vessels: Map, radius: float
) -> Map:
    """Probability that a vessel pixel is arterial, float32 (H, W); 0.5 away from vessels.

    Args:
        photo: uint8 (H, W, 3).
        field_of_view: bool (H, W).
        vessels: coverage float32 (H, W) in [0, 1].
        radius: of the field of view in pixels.

    Raises:
        MissingDependencyError: scikit-image (extra ``train``) is not installed.
    """
    mask = ndimage.binary_closing(vessels > 0.5, iterations=1) & field_of_view
    result = np.full(vessels.shape, 0.5, np.float32)
    if mask.sum() < 30:
        return result
    segments = _segments(mask)
    count = len(segments.length)
    if count < 5:
        return result
    # Colour of each segment against the vessel-free retina around it.
    free = field_of_view & ~ndimage.binary_dilation(mask, iterations=2)
    clear = free.astype(np.float32)
    optical = -np.log(photo.astype(np.float32) + 6.0)
    near = 0.09 * radius
    density = np.stack([optical[..., c] - blurred(optical[..., c], clear, near) for c in range(3)], -1)
    numbers = np.arange(count)
    centre = ndimage.maximum_filter(segments.labels, 3) * mask  # the middle three pixels
    green, red = (
        np.nan_to_num(np.asarray(ndimage.median(density[..., c], centre, numbers), float)) for c in (1, 0)
    )
    weight = segments.length * segments.width
    usable = (segments.length >= 4) & (numbers > 0)
    score = np.zeros(count)
    if usable.sum() < 5:
        return result
    w = weight[usable]
    width = segments.width[usable]
    dark_red = _residual(red[usable], width, w)
    dark_green = _residual(green[usable], width, w)
    wide = np.log(width / np.average(width, weights=w)) / 0.4
    score[usable] = -(1.1 * dark_red + 1.0 * dark_green + 0.25 * wide)
    score[usable] -= np.average(score[usable], weights=w)
    score[usable] /= np.sqrt(np.average(score[usable] ** 2, weights=w)) + 1e-6
    evidence = 1.3 * score * np.clip(segments.length * segments.width / (0.25 * radius), 0.1, 1.2)
    belief = np.tanh(evidence / 2)
    if len(segments.links):
        first, second = segments.links[:, 0].astype(int), segments.links[:, 1].astype(int)
        strength = 1.5 * segments.links[:, 2]
        size = np.sqrt(weight)
        for _ in range(12):
            field = evidence.copy()
            share = np.minimum(1.0, size[second] / (size[first] + 1e-6))
            np.add.at(field, first, strength * share * belief[second])
            share = np.minimum(1.0, size[first] / (size[second] + 1e-6))
            np.add.at(field, second, strength * share * belief[first])
            belief = 0.5 * belief + 0.5 * np.tanh(field / 2)
    probability = 0.5 + 0.5 * np.clip(belief, -0.96, 0.96)
    probability[0] = 0.5
    near_index = ndimage.distance_transform_edt(
        segments.labels == 0, return_distances=False, return_indices=True
    )
    nearest_label = segments.labels[tuple(near_index)]
    reach = ndimage.binary_dilation(vessels > 0.02, iterations=2)
    smooth = blurred(probability[nearest_label].astype(np.float32), np.ones_like(vessels), 0.8)
    return np.where(reach, smooth, result).astype(np.float32)


def split_vessels(
    photo: NDArray[np.uint8], field_of_view: NDArray[np.bool_], vessels: Map, radius: float
) -> tuple[Map, Map]:
    """Coverage of arteries and of veins, each float32 (H, W); their sum is the coverage given."""
    artery = artery_probability(photo, field_of_view, vessels, radius)
    return np.asarray(vessels * artery, np.float32), np.asarray(vessels * (1 - artery), np.float32)
