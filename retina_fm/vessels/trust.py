"""Which of the vessels estimated from a photo to believe: pruning of loose pieces, and a score of the whole.

What the filter estimates is what a network learns from it. Exudates, choroid and reflexes become short pieces
that hang on nothing; a hazy photo shows no arcades at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.float32]

_THERE = 0.35  # coverage from which a pixel belongs to a piece
_DOUBT = 0.25  # coverage above which a pixel outside all pieces is in doubt
_LOOSE, _LOOSE_AT_MACULA = 0.14, 0.45  # extent in radii of the field below which a piece is no tree's
_FOVEAL_ZONE = (
    0.28  # radius of the avascular zone in disc radii: half a millimetre wide (Bird and Weale 1974)
)
_USUAL_DENSITY = 0.06  # share of the field that clear photographs' estimates cover at least
_CELLS = 5
_USUAL_DEPTH = 0.2  # how much darker vessels are than what is beside them, in logs of green


@dataclass(frozen=True)
class Believed:
    """Vessels after pruning.

    Attributes:
        vessels: coverage in [0, 1], float32 (S, S).
        unsure: bool (S, S), where nothing can be said: pieces that were taken out, and faint doubt.
        trust: 0 to 1, how far the estimate as a whole can be believed.
    """

    vessels: Map
    unsure: NDArray[np.bool_]
    trust: float


def believe(
    photo: NDArray[np.uint8],
    vessels: Map,
    field_of_view: NDArray[np.bool_],
    radius: float,
    disc_radius: float,
    fovea: tuple[float, float],
) -> Believed:
    """Takes out pieces that no tree supports, and says what is in doubt.

    Args:
        photo: uint8 (S, S, 3).
        vessels: estimated coverage, float32 (S, S) in [0, 1].
        field_of_view: bool (S, S).
        radius: of the field of view, pixels.
        disc_radius: of the optic disc, pixels.
        fovea: its centre (y, x) in pixels.
    """
    inside = field_of_view
    y, x = np.mgrid[: vessels.shape[0], : vessels.shape[1]] + 0.5
    from_fovea = np.hypot(y - fovea[0], x - fovea[1]) / disc_radius
    there = (vessels > _THERE) & inside
    # gaps of a few pixels, where a reflex or a crossing broke the line, do not part a tree
    reach = max(1, round(0.008 * radius))
    labels, count = ndimage.label(ndimage.binary_dilation(there, iterations=reach), np.ones((3, 3)))
    labels = np.where(there, labels, 0)
    kept = np.zeros(count + 1, bool)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        piece = labels[box] == number
        extent = float(np.hypot(*piece.shape)) / radius
        at_macula = float((from_fovea[box][piece] < 2.2).mean()) > 0.5
        strong = float(np.quantile(vessels[box][piece], 0.9)) > 0.55
        kept[number] = strong and extent > (_LOOSE_AT_MACULA if at_macula else _LOOSE)
    tree = kept[labels]
    near_tree = ndimage.binary_dilation(tree, iterations=3)
    foveal = from_fovea < _FOVEAL_ZONE
    loose = (labels > 0) & ~tree
    doubt = ndimage.binary_dilation(loose, iterations=3) | (vessels > _DOUBT)
    unsure = doubt & ~near_tree & ~foveal & inside
    believed = np.where(near_tree & ~foveal, vessels, np.float32(0)).astype(np.float32)
    depth = min(1.0, _depth(photo, vessels, inside, radius) / _USUAL_DEPTH)
    return Believed(believed, unsure, _trust(vessels, tree, there, inside, radius) * depth)


def _depth(photo: NDArray[np.uint8], vessels: Map, inside: NDArray[np.bool_], radius: float) -> float:
    """Median difference of log green between vessels and the strip beside them: haze and darkness lower it.

    The filter's strength is relative to the photo: a dark one's noise is as strong as a good one's vessels.
    """
    green = np.log(photo[..., 1].astype(np.float32) + 4)
    core = (vessels > 0.6) & inside
    near = ndimage.binary_dilation(vessels > 0.3, iterations=2)
    beside = (ndimage.binary_dilation(core, iterations=6) & ~near & inside).astype(np.float32)
    weight = ndimage.gaussian_filter(beside, 0.02 * radius)
    around = ndimage.gaussian_filter(green * beside, 0.02 * radius) / (weight + 1e-4)
    seen = core & (weight > 0.03)
    return max(0.0, float(np.median((around - green)[seen]))) if int(seen.sum()) > 50 else 0.0


def _trust(
    vessels: Map, tree: NDArray[np.bool_], there: NDArray[np.bool_], inside: NDArray[np.bool_], radius: float
) -> float:
    """Share of the estimate that hangs together, times how much there is and how far it reaches."""
    area = max(int(inside.sum()), 1)
    share = float(vessels[tree].sum()) / max(float(vessels[there].sum()), 1e-6)
    density = float(vessels[tree].sum()) / area
    side = max(1, int(2 * radius / _CELLS))
    rows, columns = (np.arange(0, length, side) for length in inside.shape)
    lit = np.add.reduceat(np.add.reduceat(inside.astype(np.float32), rows, 0), columns, 1) > 0.5 * side**2
    seen = np.add.reduceat(np.add.reduceat(tree.astype(np.float32), rows, 0), columns, 1) > 0.01 * side**2
    reached = float((seen & lit).sum()) / max(int(lit.sum()), 1)
    return share * reached * min(1.0, density / _USUAL_DENSITY)
