"""Calibres of the large vessels beside the disc: central retinal equivalents and their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from retina_fm.measuring.reading import Reading
from retina_fm.vessels.skeleton import segments_of

ARTERIOLES, VENULES = 0.88, 0.95
"""Branching coefficients of Knudtson et al. 2003, Current Eye Research 27:143."""
LARGEST = 6
"""Vessels of each kind that an equivalent is made of, as there."""
ZONE = (0.5, 1.0)
"""Where widths are taken: zone B, from the disc's margin in disc diameters."""
_LEAST_CROSSED = 0.5  # of the zone's breadth: shorter pieces are branches, or cut by the field's edge


class Calibre(NamedTuple):
    """A vessel that crosses the zone: width in view pixels, and how much of it is artery, 0 to 1."""

    width: float
    artery: float


def equivalent(widths: Sequence[float], coefficient: float) -> float:
    """One trunk in place of several vessels: the widest and the narrowest are joined, again and again.

    Knudtson et al. 2003: a trunk of branches a and b has the width ``coefficient * sqrt(a^2 + b^2)``; of an
    odd number the middle one waits for the next round.

    Args:
        widths: at least one, in any unit.
        coefficient: ``ARTERIOLES`` or ``VENULES``.
    """
    left = sorted(widths)
    while len(left) > 1:
        half = len(left) // 2
        joined = [coefficient * float(np.hypot(left[i], left[-1 - i])) for i in range(half)]
        left = sorted(joined + ([left[half]] if len(left) % 2 else []))
    return float(left[0])


def calibres(reading: Reading) -> list[Calibre]:
    """Vessels that cross the zone; the disc has to be seen."""
    assert reading.disc is not None
    away = reading.from_disc
    zone = (away >= ZONE[0]) & (away < ZONE[1]) & reading.inside
    diameter = 2 * reading.disc.radius
    least = _LEAST_CROSSED * diameter * (ZONE[1] - ZONE[0])
    coverage = np.where(zone, reading.maps["vessel"], np.float32(0))  # what lies beyond is no vessel's width
    found, lines = segments_of(coverage, reading.vessels & zone, reading.lines & zone, least)
    at = np.nonzero(lines)
    owner, away, artery = lines[at], away[at], reading.artery_share[at]
    crossing = []
    for one in found:
        line = owner == one.label
        if diameter * float(np.ptp(away[line])) >= least:
            crossing.append(Calibre(one.width, float(artery[line].mean())))
    return crossing


def largest(found: Sequence[Calibre], *, arteries: bool) -> list[float]:
    """Widths of the six widest vessels of one kind, fewer where fewer cross the zone."""
    widths = [one.width for one in found if (one.artery > 0.5) == arteries]
    return sorted(widths, reverse=True)[:LARGEST]
