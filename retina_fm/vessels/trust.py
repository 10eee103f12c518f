"""Which of the vessels estimated from a photo to believe: pruning of loose pieces, and a score of the whole.

What the filter estimates is what a network learns from it. Exudates, choroid and reflexes become short pieces
that hang on nothing; a hazy photo shows no arcades at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.smoothing import grown, smoothed

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
    there = (vessels > _THERE) & inside
    labels, tree = _tree(vessels, there, radius, disc_radius, fovea)
    whole = (slice(0, vessels.shape[0]), slice(0, vessels.shape[1]))
    near_tree = grown(tree, 3)
    foveal = _from_fovea(whole, fovea, disc_radius) < _FOVEAL_ZONE
    loose = (labels > 0) & ~tree
    doubt = grown(loose, 3) | (vessels > _DOUBT)
    unsure = doubt & ~near_tree & ~foveal & inside
    believed = np.where(near_tree & ~foveal, vessels, np.float32(0)).astype(np.float32)
    light = np.log(photo[..., 1].astype(np.float32) + 4)
    return Believed(believed, unsure, _trust(light, vessels, tree, there, inside, radius))


def trust_in(
    light: Map,
    vessels: Map,
    field_of_view: NDArray[np.bool_],
    radius: float,
    disc_radius: float,
    fovea: tuple[float, float],
) -> float:
    """The ``trust`` of ``believe`` alone, 0 to 1.

    Args:
        light: log of the photo's green channel plus 4, float32 (S, S).
        vessels: see ``believe``, as the others.
        field_of_view: bool (S, S).
        radius: of the field of view, pixels.
        disc_radius: of the optic disc, pixels.
        fovea: its centre (y, x) in pixels.
    """
    there = (vessels > _THERE) & field_of_view
    tree = _tree(vessels, there, radius, disc_radius, fovea)[1]
    return _trust(light, vessels, tree, there, field_of_view, radius)


def _tree(
    vessels: Map, there: NDArray[np.bool_], radius: float, disc_radius: float, fovea: tuple[float, float]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Numbers of all pieces, 0 where there is none, and which pixels are of pieces that are large enough."""
    # gaps of a few pixels, where a reflex or a crossing broke the line, do not part a tree
    reach = max(1, round(0.008 * radius))
    labels, count = ndimage.label(grown(there, reach), np.ones((3, 3)))
    labels = np.where(there, labels, 0)
    kept = np.zeros(count + 1, bool)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        extent = float(np.hypot(*(side.stop - side.start for side in box))) / radius
        if extent <= _LOOSE:  # most pieces: nothing else about them matters
            continue
        piece = labels[box] == number
        at_macula = float((_from_fovea(box, fovea, disc_radius)[piece] < 2.2).mean()) > 0.5
        strong = float(np.quantile(vessels[box][piece], 0.9)) > 0.55
        kept[number] = strong and extent > (_LOOSE_AT_MACULA if at_macula else _LOOSE)
    return labels, kept[labels]


def _from_fovea(
    box: tuple[slice, ...], fovea: tuple[float, float], disc_radius: float
) -> NDArray[np.float64]:
    """How far each pixel of a part of the view is from the fovea, in radii of the disc."""
    y, x = (np.arange(side.start, side.stop) + 0.5 for side in box)
    return np.asarray(np.hypot(y[:, None] - fovea[0], x - fovea[1]) / disc_radius)


def _trust(
    light: Map,
    vessels: Map,
    tree: NDArray[np.bool_],
    there: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    radius: float,
) -> float:
    depth = min(1.0, _depth(light, vessels, inside, radius) / _USUAL_DEPTH)
    return _reach(vessels, tree, there, inside, radius) * depth


def _depth(light: Map, vessels: Map, inside: NDArray[np.bool_], radius: float) -> float:
    """Median difference of log green between vessels and the strip beside them: haze and darkness lower it.

    The filter's strength is relative to the photo: a dark one's noise is as strong as a good one's vessels.
    """
    core = (vessels > 0.6) & inside
    near = grown(vessels > 0.3, 2)
    beside = (grown(core, 6) & ~near & inside).astype(np.float32)
    weight = smoothed(beside, 0.02 * radius)
    seen = core & (weight > 0.03)
    if int(seen.sum()) <= 50:
        return 0.0
    around = smoothed(light * beside, 0.02 * radius)[seen] / (weight[seen] + 1e-4)
    return max(0.0, float(np.median(around - light[seen])))


def _reach(
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
