"""Where the dye is at a given second: concentrations over time and fronts along the vessels.

All functions are pure and broadcast over the batch; times are seconds after dye reaches the optic disc.
"""

from __future__ import annotations

import torch
from torch import Tensor


def arterial_input(time: Tensor, peak: Tensor, plateau: Tensor, clearance: Tensor) -> Tensor:
    """Concentration of dye in arterial blood, relative to its first peak.

    A gamma variate for the first pass (Thompson 1964, Circ Res 14:502), recirculation of about a fifth some
    13 s later, and mixing with two-exponential clearance from the plasma (Blair 1986, Br J Ophthalmol;
    Palestine and Brubaker 1981, Invest Ophthalmol Vis Sci 21:542: fast tissue uptake, slow excretion).

    Args:
        time: seconds; no dye before 0.
        peak: second of the first peak.
        plateau: share of the dose that stays after the first pass.
        clearance: time constant of slow clearance in seconds.
    """
    t = time.clamp(min=0)
    ratio = t / peak
    first = ratio.sqrt() * torch.exp(0.5 * (1 - ratio))  # steep rise: the bolus is injected in a few seconds
    again = 0.18 * (t > 0) * torch.exp(-0.5 * ((t - peak - 9.0) / 3.5) ** 2)
    mixed = (1 - torch.exp(-((t / 3.0) ** 2))) * (
        0.55 * torch.exp(-t / 45.0) + 0.45 * torch.exp(-t / clearance)
    )
    return (1 - plateau) * (first + again) + plateau * 1.25 * mixed


def front(time: Tensor, delay: Tensor, width: Tensor | float) -> Tensor:
    """How far a place has filled: 0 before the front, 1 behind it (logistic, ``width`` in seconds)."""
    return (
        torch.sigmoid_((time - delay) / width)
        if isinstance(width, float)
        else torch.sigmoid((time - delay) / width)
    )


def arterial_delay(distance: Tensor, speed: Tensor) -> Tensor:
    """Seconds until dye has come ``distance`` along an artery; fronts travel outward from the disc.

    Arteries fill within about a second (Bursell 1992, video fluorescein angiography; Spaide 2015).
    """
    return distance / speed


def laminar_delay(
    distance: Tensor, axis: Tensor, calibre: Tensor, speed: Tensor, transit: Tensor, laminar: Tensor
) -> Tensor:
    """Seconds until a place in a vein fills.

    Venules bring dye to the walls first, and the middle of a wide vein, fed from the far periphery, fills
    last: the tramline of laminar flow (Dollery 1962, Br Med J; Spaide 2015).

    Args:
        distance: along the vein from the disc, radii of the field.
        axis: 0 at the wall to 1 in the middle.
        calibre: half width, radii of the field.
        speed: of arterial flow, radii a second.
        transit: seconds from artery to vein through the capillaries.
        laminar: seconds by which the middle of the widest veins lags.
    """
    width = (calibre / 0.012).clamp(max=1.0)
    return transit + 0.6 * distance / speed + laminar * axis.square() * width


def slow_rise(time: Tensor, constant: Tensor | float) -> Tensor:
    """Staining and leakage: dye outside the vessels grows as 1 - exp(-t / constant)."""
    return 1 - torch.exp(-time.clamp(min=0) / constant)
