"""Disc and fovea read off the maps of a network that was trained to show them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.smoothing import smoothed

Map = NDArray[np.float32]
Point = tuple[float, float]

_SURE_DISC, _SURE_FOVEA = 0.5, 0.35
_DISC_SHARES = (0.08, 0.28)  # of the field's radius: a disc is neither smaller nor larger


class SeenDisc(NamedTuple):
    """An optic disc as its map shows it.

    Attributes:
        centre: (y, x) in pixels, pixel centres at half-integers.
        radius: of the circle of the same area, pixels.
        piece: bool (S, S), the pixels above one half that hang together.
        sureness: mean probability over the piece.
    """

    centre: Point
    radius: float
    piece: NDArray[np.bool_]
    sureness: float


class SeenFovea(NamedTuple):
    """A fovea as its map shows it: the peak of the smoothed map, (y, x) in pixels, and how high it is."""

    centre: Point
    sureness: float


def disc_in(probability: Map, radius: float) -> SeenDisc | None:
    """The largest piece of a disc's size, or None.

    Args:
        probability: of the disc, float32 (S, S).
        radius: of the field of view, pixels.
    """
    labels, count = ndimage.label(probability > _SURE_DISC)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    best = int(sizes.argmax()) + 1
    found = float(np.sqrt(sizes[best - 1] / np.pi))
    if not _DISC_SHARES[0] * radius < found < _DISC_SHARES[1] * radius:
        return None
    piece = labels == best
    y, x = ndimage.center_of_mass(piece)
    return SeenDisc((y + 0.5, x + 0.5), found, piece, float(probability[piece].mean()))


def fovea_in(probability: Map, radius: float) -> SeenFovea | None:
    """Where the smoothed map is highest, or None where it is low everywhere.

    Args:
        probability: of the fovea, float32 (S, S).
        radius: of the field of view, pixels.
    """
    smooth = smoothed(probability, 0.02 * radius)
    highest = float(smooth.max())
    if highest < _SURE_FOVEA:
        return None
    y, x = np.unravel_index(int(smooth.argmax()), smooth.shape)
    return SeenFovea((float(y) + 0.5, float(x) + 0.5), highest)
