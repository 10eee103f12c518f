"""The plan of one eye: where disc and fovea lie, and the traits that both eyes of a person share.

Lengths are in radii of the field of view, with its centre at the origin, x to the right and y down, as in
the picture. A 45 degree photograph shows about 13 mm of retina, so one radius is about 6.5 mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retina_fm.vocabulary import Eye


@dataclass(frozen=True)
class Traits:
    """What a person's two eyes have in common.

    Attributes:
        pigmentation: 0 light to 1 dark.
        hue: small shift of the fundus colour, in [-1, 1].
        tessellation: how far choroidal vessels show, 0 to 1.
        calibre: factor on all vessel widths.
        artery_to_vein: ratio of arterial to venous width; 2:3 in healthy adults (Hubbard 1999).
        tortuosity: factor on the wandering of vessels.
        reflex: strength of the central light reflex on arteries.
        disc_radius, cup: radius of the disc in radii of the field, and the cup's share of it.
        disc_to_fovea: distance of their centres; 4.0 to 5.0 mm (Jonas 2015).
        youth: 0 old (no sheen) to 1 young (bright nerve-fibre sheen, yellow-free lens).
        trunk_angles: shifts of the trunk angles, degrees, one a quadrant.
    """

    pigmentation: float
    hue: float
    tessellation: float
    calibre: float
    artery_to_vein: float
    tortuosity: float
    reflex: float
    disc_radius: float
    cup: float
    disc_to_fovea: float
    youth: float
    trunk_angles: tuple[float, ...]


@dataclass(frozen=True)
class Anatomy:
    """Landmarks of one eye in one photograph; ``temporal`` is +1 where temporal is to the right."""

    eye: Eye
    temporal: float
    disc: tuple[float, float]
    fovea: tuple[float, float]
    traits: Traits


def draw_traits(rng: np.random.Generator, pigmentation: float | None = None) -> Traits:
    """Traits of a person; ``pigmentation`` in [0, 1] fixes that one."""
    drawn = float(rng.beta(1.3, 1.3))
    distance = float(rng.uniform(0.64, 0.74))
    return Traits(
        pigmentation=drawn if pigmentation is None else float(pigmentation),
        hue=float(rng.uniform(-1, 1)),
        tessellation=float(rng.beta(1.2, 2.6)),
        calibre=float(rng.uniform(0.88, 1.16)),
        artery_to_vein=float(np.clip(rng.normal(0.69, 0.045), 0.55, 0.85)),
        tortuosity=float(np.clip(rng.lognormal(0.0, 0.35), 0.4, 2.2)),
        reflex=float(rng.uniform(0.3, 1.0)),
        disc_radius=distance * float(np.clip(rng.normal(0.195, 0.014), 0.165, 0.235)),
        cup=float(rng.beta(3.0, 4.0) * 0.75 + 0.08),
        disc_to_fovea=distance,
        youth=float(rng.beta(1.2, 1.6)),
        trunk_angles=tuple(float(v) for v in rng.normal(0.0, 9.0, 9)),
    )


def lay_out(rng: np.random.Generator, traits: Traits, eye: Eye) -> Anatomy:
    """Places disc and fovea for one photograph of ``eye``, most often centred near the fovea."""
    temporal = -1.0 if eye == "right" else 1.0
    # The fovea lies about 7 degrees below the disc, seen from the disc (Jonas 2015).
    tilt = np.deg2rad(rng.normal(7.0, 2.5))
    step = traits.disc_to_fovea * np.array([temporal * np.cos(tilt), np.sin(tilt)])
    centring = float(np.clip(rng.beta(1.1, 2.4), 0.0, 1.0))  # 0 fovea in the middle, 1 disc in the middle
    middle = np.clip(rng.normal(0.0, 0.045, 2), -0.1, 0.1)
    fovea = middle + centring * step
    disc = fovea - step
    return Anatomy(
        eye, temporal, (float(disc[0]), float(disc[1])), (float(fovea[0]), float(fovea[1])), traits
    )
