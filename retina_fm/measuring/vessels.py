"""The tree of vessels as numbers: density, tortuosity, fractal dimension. Definitions: docs/measuring.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retina_fm.measuring.reading import Reading
from retina_fm.vessels.skeleton import Line, Segment, lines_of

ZONES = {"zone_1": (0.5, 1.0), "zone_2": (1.0, 1.5), "zone_3": (1.5, 2.0)}
"""Rings round the disc, from its margin outwards in disc diameters."""
LEAST_SEEN = 0.5
"""Share of a ring that has to lie in the field for its numbers to be given."""
LEAST_VESSELS = 0.01
"""Density below which no tree is seen and no shape of one is measured: clear photos have 0.08 to 0.13."""
_SHORTEST = 0.1  # radii of the field: shorter pieces say nothing of tortuosity
_MOST_BENT = 1.5
"""With them the correlation with labels is 0.04 on RITE and 0.91 on LES-AV, without 0.85 and 0.84."""
_BOXES = (2, 3, 4, 6, 8, 12, 16, 24, 32)


def density(reading: Reading) -> float:
    """Share of the field that vessels cover."""
    return float(reading.vessels.sum()) / max(1, int(reading.inside.sum()))


def zone_densities(reading: Reading) -> dict[str, float | None]:
    """Share of each ring round the disc that vessels cover, or None where less than half of it is seen."""
    away = reading.from_disc
    assert reading.disc is not None
    found: dict[str, float | None] = {}
    for name, (low, high) in ZONES.items():
        ring = (away >= low) & (away < high) & reading.inside
        outer, inner = (2 * reading.disc.radius * (0.5 + edge) for edge in (high, low))
        whole = np.pi * (outer**2 - inner**2)
        found[name] = None if ring.sum() < LEAST_SEEN * whole else float(reading.vessels[ring].mean())
    return found


def lines(reading: Reading) -> list[Line]:
    """Centre lines between junctions, all that are long enough for tortuosity."""
    # a line of n pixels is no longer than n - 1 diagonals
    return lines_of(reading.lines, _SHORTEST * reading.radius / np.sqrt(2))[0]


def tortuosity(found: Sequence[Line | Segment], radius: float) -> float | None:
    """Mean of length over chord less 1, weighted by length, over segments of a tenth of the radius and more.

    Segments half as long again as their chord are left out: rings that a map closes round a reflex or between
    vessels that touch. Hart et al. 1999, International Journal of Medical Informatics 53:239 (distance
    measure). None where no segment is long enough.
    """
    long = [one for one in found if one.length >= _SHORTEST * radius and one.length < _MOST_BENT * one.chord]
    total = sum(one.length for one in long)
    if not total:
        return None
    return sum(one.length * (one.length / one.chord - 1) for one in long) / total


def fractal_dimension(reading: Reading) -> float:
    """Box-counting dimension of the centre lines, boxes of 2 to 32 view pixels.

    Slope of the logs of occupied boxes over sizes (Mainster 1990, Eye 4:235).
    """
    y, x = np.nonzero(reading.lines)
    counts = []
    for size in _BOXES:
        held = np.zeros([-(-length // size) for length in reading.lines.shape], bool)
        held[y // size, x // size] = True
        counts.append(int(held.sum()))
    slope = np.polyfit(np.log(_BOXES), np.log(np.maximum(counts, 1)), 1)[0]
    return float(-slope)
