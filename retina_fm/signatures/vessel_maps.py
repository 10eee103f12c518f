"""Where a view has vessels, dark or bright, at the one size that signatures are read at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from retina_fm.pictures.field_of_view import lit_field
from retina_fm.vessels.line_filter import flatten, line_strength

SIDE = 256
"""Edge of a map, in pixels."""
_MARGIN = 0.02  # of a view around its field of view
_NOISE, _CLEAR = 2.5, 4.0  # strengths that are no vessel yet, and surely one: a faint one counts as a strong
_BOTH = 0.5  # of the stronger kind's strength: arteries are bright and veins still dark when dye arrives
_SUREST = 0.97  # vessels take a tenth of a field: within its surest thirtieth all is vessel, if any is
_REDDISH = 0.08
_FEW_PIXELS = 1000


class VesselMap(NamedTuple):
    """What was seen of one view.

    Attributes:
        vessels: float32 ``(SIDE, SIDE)`` in [0, 1].
        field: of view, bool ``(SIDE, SIDE)``.
        strength: how far the surest lines stand out of the noise; about 3 where no retina is seen.
        bright: whether vessels are brighter than what surrounds them, as in an angiogram with dye.
    """

    vessels: NDArray[np.float32]
    field: NDArray[np.bool_]
    strength: float
    bright: bool


def map_vessels(view: NDArray[np.uint8], field: NDArray[np.bool_] | None = None) -> VesselMap:
    """Lines of one view ``uint8 (S, S, 3)``.

    A photograph in colour has dark vessels. In a grey one they are what stands out more: dark without dye and
    before it comes, bright after, and both while it fills arteries and not yet veins.

    Args:
        view: of a photo, black outside its field of view.
        field: of view, bool ``(S, S)``; where the view is not black without it.
    """
    small = np.array(Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.BOX))
    if field is None:
        inside = np.asarray(ndimage.binary_fill_holes(small.any(axis=2)), np.bool_)
    else:
        inside = np.array(Image.fromarray(field).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    inside = lit_field(small, inside)
    if int(inside.sum()) < _FEW_PIXELS:
        return VesselMap(np.zeros((SIDE, SIDE), np.float32), inside, 0.0, False)
    radius = SIDE / 2 / (1 + _MARGIN)
    flat = flatten(small, inside, radius)
    lines = line_strength(flat, inside, radius)
    surest, bright = float(np.quantile(lines[inside], _SUREST)), False
    if not _is_reddish(small, inside):
        others = line_strength(-flat, inside, radius)
        other = float(np.quantile(others[inside], _SUREST))
        bright = other > surest
        if min(other, surest) > _BOTH * max(other, surest):
            lines = np.maximum(lines, others)
        elif bright:
            lines = others
        surest = max(surest, other)
    vessels = np.clip((lines - _NOISE) / (_CLEAR - _NOISE), 0, 1).astype(np.float32)
    return VesselMap(vessels, inside, surest, bright)


def with_network(seen: VesselMap, probability: NDArray[np.floating]) -> VesselMap:
    """Lines that a network's vessel map ``(SIDE, SIDE)`` in [0, 1] sees too: the geometric mean of both."""
    both = np.sqrt(seen.vessels * np.clip(probability, 0, 1).astype(np.float32))
    return seen._replace(vessels=np.asarray(both, np.float32))


def _is_reddish(view: NDArray[np.uint8], inside: NDArray[np.bool_]) -> bool:
    """Whether a picture is a colour photograph: more red than blue, and not by the tint of a grey one."""
    red, green, blue = view[inside].mean(axis=0, dtype=np.float64)
    return bool(red > green > 0.9 * blue and red - blue > _REDDISH * (red + green + blue))
