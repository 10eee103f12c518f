"""How well a photo shows the retina, 0 to 1, and what it owes that to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from retina_fm.measuring.reading import Reading
from retina_fm.vessels.line_filter import blurred_all
from retina_fm.vessels.trust import trust_in

_STEEP = 0.05
"""Mean fall of log green a view pixel across the edges of vessels, from which a photo counts as sharp."""
_AN_EDGE = 0.08  # a pixel: how steep the smoothed map of vessels is where a vessel ends
_FEWEST_EDGES = 100
_DARK, _WASHED_OUT = 50.0, 250.0  # of 255, of the brightest channel's local mean
_UNEVEN = 0.8  # standard deviation of the local mean of log green in a field lit from one side
_USUAL_DISC = 0.14  # radii of the field
_WARM = 0.1  # by how much red exceeds blue, as a share of their sum, in the palest photographs of retinas


class Quality(NamedTuple):
    """Parts and the whole, each from 0 to 1.

    Attributes:
        focus: how steep the edges of vessels are: blur, haze and darkness lower it.
        illumination: how much of the field is neither dark nor washed out, and how evenly it is lit.
        field: how much of the circle is in the picture.
        vessels: how far a connected tree of vessels reaches.
        fundus: whether it is a colour photograph of a retina at all.
    """

    focus: float
    illumination: float
    field: float
    vessels: float
    fundus: float

    @property
    def whole(self) -> float:
        """``fundus`` times the geometric mean of the other parts."""
        parts = (self.focus, self.illumination, self.field, self.vessels)
        return float(self.fundus * np.prod(parts) ** (1 / len(parts)))


def quality(reading: Reading) -> Quality:
    """Judges a photo by its view and its map of vessels."""
    disc, fovea = reading.disc, reading.fovea
    trust = trust_in(
        reading.light,
        reading.maps["vessel"],
        reading.inside,
        reading.radius,
        _USUAL_DISC * reading.radius if disc is None else disc.radius,
        _no_place(reading) if fovea is None else fovea.centre,
    )
    return Quality(
        focus=_share(steepness(reading) / _STEEP),
        illumination=illumination(reading),
        field=_share(float(reading.inside.sum()) / (np.pi * reading.radius**2)),
        vessels=_share(trust),
        fundus=fundus(reading, trust),
    )


def steepness(reading: Reading) -> float:
    """Mean fall of log green a view pixel from beside a vessel into it, over the edges of all vessels.

    Noise falls and rises alike across an edge and cancels; a sharp photo of high contrast has 0.05 and more.
    """
    down, right = np.gradient(ndimage.gaussian_filter(reading.maps["vessel"], 1.0))
    steep = np.hypot(down, right)
    edges = (steep > _AN_EDGE) & (reading.depth_inside > max(1.0, 0.03 * reading.radius))
    if int(edges.sum()) < _FEWEST_EDGES:
        return 0.0
    light, (y, x) = reading.light, np.nonzero(edges)  # none lies on the view's edge
    light_down = (light[y + 1, x] - light[y - 1, x]) / 2
    light_right = (light[y, x + 1] - light[y, x - 1]) / 2
    falls = -(light_down * down[y, x] + light_right * right[y, x]) / steep[y, x]
    return max(0.0, float(falls.mean()))


def illumination(reading: Reading) -> float:
    """Share of the field that is neither dark nor washed out, times how evenly it is lit."""
    inside = reading.inside.astype(np.float32)
    if not inside.any():
        return 0.0
    sigma = 0.03 * reading.radius
    red, green, blue = np.moveaxis(reading.view, 2, 0)
    brightest = np.maximum(np.maximum(red, green), blue).astype(np.float32)
    bright, light = (mean[reading.inside] for mean in blurred_all([brightest, reading.light], inside, sigma))
    seen = float(((bright >= _DARK) & (bright <= _WASHED_OUT)).mean())
    uneven = float(light.std())
    return seen * _share(1 - uneven / _UNEVEN)


def fundus(reading: Reading, trust: float) -> float:
    """Whether it is a colour photograph of a retina: its hue, times the surer of disc and tree of vessels.

    Args:
        reading: of the photo.
        trust: 0 to 1, in its tree of vessels.
    """
    area = max(1, int(reading.inside.sum()))
    red, blue = (float(reading.view[..., channel][reading.inside].sum()) / area for channel in (0, 2))
    warm = _share((red - blue) / max(red + blue, 1.0) / _WARM)
    disc = 0.0 if reading.disc is None else reading.disc.sureness
    return warm * max(disc, _share(2 * trust))


def _no_place(reading: Reading) -> tuple[float, float]:
    """Outside the view, where no vessel is taken for one at the macula."""
    far = 2.0 * reading.view.shape[0]
    return far, far


def _share(value: float) -> float:
    return float(min(1.0, max(0.0, value)))
