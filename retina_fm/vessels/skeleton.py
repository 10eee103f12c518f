"""A mask of vessels as centre lines, and these as segments with length and width."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.smoothing import grown

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

_STEPS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
_EIGHT = np.ones((3, 3), bool)
_SMOOTHED = 2.0  # pixels: steps of the grid are no bends of a vessel


class Line(NamedTuple):
    """A centre line between two junctions or ends.

    Attributes:
        label: its number in the map of lines, from 1.
        path: (n, 2) points (y, x) along the smoothed line, pixel centres at half-integers.
        length: along the path, pixels.
        chord: between its ends, pixels.
    """

    label: int
    path: NDArray[np.float64]
    length: float
    chord: float


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
    thin = np.pad(mask, 1).astype(np.uint8, order="C")  # so that what is flat is a view of it
    flat, left = thin.reshape(-1), np.flatnonzero(thin)
    before = -1
    while len(left) != before:
        before = len(left)
        for removable in _REMOVABLE:
            gone = removable[_around(flat, left, thin.shape[1])]
            flat[left[gone]] = 0
            left = left[~gone]
    return np.asarray(thin[1:-1, 1:-1], bool)


def _around(flat: NDArray[np.uint8], at: NDArray[np.intp], width: int) -> NDArray[np.uint8]:
    """Which of its eight neighbours each pixel has, a bit each, clockwise from above.

    Args:
        flat: 0 and 1, rows of a picture one after another; none of ``at`` lies on its edge.
        at: indices in it.
        width: of the picture.
    """
    found = np.zeros(len(at), np.uint8)
    for bit, (dy, dx) in enumerate(_STEPS):
        found |= flat[at + (dy * width + dx)] << np.uint8(bit)
    return found


def _cases() -> tuple[tuple[Mask, Mask], NDArray[np.intp]]:
    """What holds for each of the 256 ways a pixel's neighbours can be, one bit each.

    Returns:
        Which border pixels each half of a round takes away, and how many lines leave a pixel.
    """
    around = np.arange(256) >> np.arange(8)[:, None] & 1
    crossings = ((around == 0) & (np.roll(around, -1, 0) == 1)).sum(0)
    neighbours = around.sum(0)
    north, east, south, west = around[0], around[2], around[4], around[6]
    border = (neighbours >= 2) & (neighbours <= 6) & (crossings == 1)
    first = border & (north * east * south == 0) & (east * south * west == 0)
    second = border & (north * east * west == 0) & (north * south * west == 0)
    return (first, second), crossings


_REMOVABLE, _LEAVING = _cases()


def _junctions(lines: Mask) -> Mask:
    """Pixels that three lines or more leave; a corner of the grid's steps is none."""
    padded = np.pad(lines, 1).astype(np.uint8)
    flat, at = padded.reshape(-1), np.flatnonzero(padded)
    found = np.zeros(padded.shape, bool)
    found.reshape(-1)[at[_LEAVING[_around(flat, at, padded.shape[1])] >= 3]] = True
    return found[1:-1, 1:-1]


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
    found, labels = lines_of(lines, shortest)
    if not found:
        return [], labels
    near = grown(mask, 2)
    box = _box(near | (labels > 0))
    nearest = ndimage.distance_transform_edt(labels[box] == 0, return_distances=False, return_indices=True)
    owner = labels[box][tuple(nearest)][near[box]]
    areas = np.bincount(owner, coverage[box][near[box]], found[-1].label + 1)
    # the line ends half a pixel inside its last pixels
    return [Segment(*one, float(areas[one.label] / (one.length + 1))) for one in found], labels


def lines_of(lines: Mask, shortest: float) -> tuple[list[Line], NDArray[np.int32]]:
    """Centre lines between junctions, without the widths of their vessels.

    Args:
        lines: see ``segments_of``.
        shortest: likewise.

    Returns:
        Lines by number, and an int32 map (S, S) of which pixel belongs to which of all pieces.
    """
    # with what touches a junction: its arms touch each other across corners
    labels, count = ndimage.label(lines & ~grown(_junctions(lines), corners=True), _EIGHT)
    labels = np.asarray(labels, np.int32)
    if not count:
        return [], labels
    at = np.flatnonzero(labels)
    owner = labels.reshape(-1)[at]
    # pixels by piece, each piece's from above and from the left
    pieces = np.split(at[np.argsort(owner, kind="stable")], np.cumsum(np.bincount(owner)[1:-1]))
    width = lines.shape[1] + 1  # with a margin, so that the end of a row does not touch the next
    kept = []
    for number, piece in enumerate(pieces, 1):
        if len(piece) < shortest:
            continue
        y, x = np.divmod(piece, lines.shape[1])
        top, left = int(y.min()), int(x.min())
        ordered = _in_order(list(zip((y - top).tolist(), (x - left).tolist(), strict=True)), width)
        path = _smooth(np.stack(np.divmod(ordered, width), 1) + np.array([top, left]) + 0.5)
        length = float(np.hypot(*np.diff(path, axis=0).T).sum())
        chord = float(np.hypot(*(path[-1] - path[0])))
        if length > 0:
            kept.append(Line(number, path, length, chord))
    return kept, labels


def _box(mask: Mask) -> tuple[slice, slice]:
    """The smallest part of a picture that holds a mask, which is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _in_order(points: list[tuple[int, int]], width: int) -> list[int]:
    """Pixels of a line from one of its ends to the other, the shortest way, as indices in rows of a width."""
    steps = [dy * width + dx for dy, dx in _STEPS]
    pixels = [y * width + x for y, x in points]
    # where a piece forks or closes a ring, the way depends on the start: that of all figures so far is kept
    y, x = next(iter(set(points)))
    end = next(reversed(_reached(y * width + x, pixels, steps)))
    before = _reached(end, pixels, steps)
    path = [next(reversed(before))]
    while path[-1] != end:
        path.append(before[path[-1]])
    return path


def _reached(start: int, pixels: list[int], steps: list[int]) -> dict[int, int]:
    """All pixels in the order of their distance from one of them, each with the one before it."""
    left = set(pixels)
    left.remove(start)
    before = {start: start}
    waiting = deque([start])
    while waiting and left:
        at = waiting.popleft()
        for step in steps:
            beside = at + step
            if beside in left:
                left.remove(beside)
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
