"""A mask of vessels as centre lines, and these as segments with length and width."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

_STEPS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
_EIGHT = np.ones((3, 3), bool)
_SMOOTHED = 2.0  # pixels: steps of the grid are no bends of a vessel


class Segment(NamedTuple):
    """A vessel between two junctions or ends.

    Attributes:
        label: its number in the map of segments, from 1.
        path: (n, 2) points (y, x) along its smoothed centre line, pixel centres at half-integers.
        length: along the path, pixels.
        chord: between its ends, pixels.
        width: its area over its length, pixels.
    """

    label: int
    path: NDArray[np.float64]
    length: float
    chord: float
    width: float


def thinned(mask: Mask) -> Mask:
    """Centre lines of a mask, one pixel wide, connected as the mask is.

    Zhang and Suen 1984, Communications of the ACM 27:236.
    """
    thin = np.pad(mask, 1).astype(np.uint8)
    while True:
        before = int(thin.sum())
        for first in (True, False):
            thin[_removable(thin, first)] = 0
        if int(thin.sum()) == before:
            return np.asarray(thin[1:-1, 1:-1], bool)


def _removable(thin: NDArray[np.uint8], first: bool) -> tuple[NDArray[np.intp], ...]:
    """Border pixels that one half of a round takes away, as indices."""
    y, x = np.nonzero(thin)
    around, crossings = _around(thin, y, x)
    neighbours = around.sum(0)
    north, east, south, west = around[0], around[2], around[4], around[6]
    if first:
        open_side = (north * east * south == 0) & (east * south * west == 0)
    else:
        open_side = (north * east * west == 0) & (north * south * west == 0)
    chosen = (neighbours >= 2) & (neighbours <= 6) & (crossings == 1) & open_side
    return y[chosen], x[chosen]


def _around(
    thin: NDArray[np.uint8], y: NDArray[np.intp], x: NDArray[np.intp]
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """The eight neighbours of pixels, clockwise from above, (8, n), and how many lines leave each, (n,)."""
    around = np.stack([thin[y + dy, x + dx] for dy, dx in _STEPS])
    return around, ((around == 0) & (np.roll(around, -1, 0) == 1)).sum(0)


def _junctions(lines: Mask) -> Mask:
    """Pixels that three lines or more leave; a corner of the grid's steps is none."""
    padded = np.pad(lines, 1).astype(np.uint8)
    y, x = np.nonzero(padded)
    meet = _around(padded, y, x)[1] >= 3
    found = np.zeros(lines.shape, bool)
    found[y[meet] - 1, x[meet] - 1] = True
    return found


def segments_of(
    coverage: Map, mask: Mask, lines: Mask, shortest: float
) -> tuple[list[Segment], NDArray[np.int32]]:
    """Vessels between junctions.

    Args:
        coverage: how much of each pixel is vessel, float32 (S, S): edges are between pixels.
        mask: bool (S, S), what counts as vessel.
        lines: its centre lines, bool (S, S), or a part of them: segments end where the part does.
        shortest: pixels of centre line below which a piece is no segment.

    Returns:
        Segments, and an int32 map (S, S) of which centre line pixel belongs to which piece.
    """
    # with what touches a junction: its arms touch each other across corners
    pieces = lines & ~ndimage.binary_dilation(_junctions(lines), _EIGHT)
    labels, count = ndimage.label(pieces, _EIGHT)
    if not count:
        return [], np.zeros(mask.shape, np.int32)
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    near = ndimage.binary_dilation(mask, iterations=2)
    owner = labels[tuple(nearest)][near]
    areas = np.bincount(owner, coverage[near], count + 1)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    kept = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None or pixels[number] < shortest:
            continue
        points = np.argwhere(labels[box] == number)
        path = _smooth(_in_order(points) + np.array([box[0].start, box[1].start]) + 0.5)
        length = float(np.hypot(*np.diff(path, axis=0).T).sum())
        chord = float(np.hypot(*(path[-1] - path[0])))
        if length > 0:
            # the line ends half a pixel inside its last pixels
            kept.append(Segment(number, path, length, chord, float(areas[number] / (length + 1))))
    return kept, np.asarray(labels, np.int32)


def _in_order(points: NDArray[np.intp]) -> NDArray[np.float64]:
    """Pixels of a line from one of its ends to the other, the shortest way."""
    left = {(int(y), int(x)) for y, x in points}
    end = list(_reached(next(iter(left)), left))[-1]
    before = _reached(end, left)
    at: tuple[int, int] | None = list(before)[-1]
    path = []
    while at is not None:
        path.append(at)
        at = before[at]
    return np.array(path, np.float64)


def _reached(
    start: tuple[int, int], pixels: set[tuple[int, int]]
) -> dict[tuple[int, int], tuple[int, int] | None]:
    """All pixels in the order of their distance from one of them, each with the one before it."""
    before: dict[tuple[int, int], tuple[int, int] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        y, x = at = waiting.popleft()
        for dy, dx in _STEPS:
            beside = (y + dy, x + dx)
            if beside in pixels and beside not in before:
                before[beside] = at
                waiting.append(beside)
    return before


def _smooth(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """The path without the grid's steps; its ends stay where they are."""
    if len(path) < 5:
        return path
    extended = np.concatenate([2 * path[:1] - path[8:0:-1], path, 2 * path[-1:] - path[-2:-10:-1]])
    before = len(path[8:0:-1])
    smooth = ndimage.gaussian_filter1d(extended, _SMOOTHED, axis=0, mode="nearest")
    return np.asarray(smooth[before : before + len(path)])
