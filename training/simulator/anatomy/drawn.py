"""Drawn retinas: procedural fundus photographs with the truth about every pixel.

They are the project's own sample pictures (nothing is downloaded), test material whose answers are known,
and extra training material. ``draw_retina(seed)`` gives the same bytes for the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, nearest
from retina_fm.training.simulator.anatomy.fundus_colours import paint_fundus
from retina_fm.training.simulator.anatomy.lesion_shapes import draw_counts, draw_lesions
from retina_fm.training.simulator.anatomy.plan import Anatomy, Traits, draw_traits, lay_out
from retina_fm.training.simulator.anatomy.strokes import draw_branches
from retina_fm.training.simulator.anatomy.vessel_trees import grow_tree
from retina_fm.vocabulary import EYES, LESION_TYPES, Eye

Map = NDArray[np.float32]


@dataclass(frozen=True)
class DrawnRetina:
    """A drawn eye and its truth. All maps are in the photo's own pixels.

    Attributes:
        photo: uint8 (S, S, 3).
        arteries, veins: coverage in [0, 1], float32 (S, S).
        disc: coverage of the optic disc, float32 (S, S).
        lesions: coverage of each type of lesion, float32 (S, S); absent types are zero maps.
        field_of_view: bool (S, S).
        disc_centre, fovea_centre: (y, x) in pixels, pixel centres at half-integers.
        field_centre: (y, x) and field_radius: the circle of the aperture, pixels.
        eye: "right" or "left".
        pigmentation: 0 light to 1 dark.
        seed: the seed that made it.
    """

    photo: NDArray[np.uint8]
    arteries: Map
    veins: Map
    disc: Map
    lesions: dict[str, Map]
    field_of_view: NDArray[np.bool_]
    disc_centre: tuple[float, float]
    fovea_centre: tuple[float, float]
    field_centre: tuple[float, float]
    field_radius: float
    eye: Eye
    pigmentation: float
    seed: int

    @property
    def vessels(self) -> Map:
        """Coverage of arteries and veins together."""
        return np.maximum(self.arteries, self.veins)


def _counts(rng: np.random.Generator, lesions: Mapping[str, int] | None) -> dict[str, int]:
    if lesions is None:
        return draw_counts(rng)
    for name in lesions:
        if name not in LESION_TYPES:
            raise ConfigError(
                f"{name!r} is not a type of lesion that can be drawn. {nearest(name, LESION_TYPES)}"
            )
    return {name: int(count) for name, count in lesions.items()}


def _aperture(rng: np.random.Generator, size: int) -> tuple[NDArray[np.bool_], tuple[float, float], float]:
    """The camera's window: a circle, sometimes cut at top and bottom, sometimes with a notch."""
    radius = size * float(rng.uniform(0.455, 0.49))
    centre = (size / 2 + float(rng.normal(0, 0.004 * size)), size / 2 + float(rng.normal(0, 0.004 * size)))
    y, x = np.mgrid[:size, :size].astype(np.float32) + 0.5
    field = np.hypot(y - centre[0], x - centre[1]) < radius
    if rng.random() < 0.3:
        field &= np.abs(y - centre[0]) < radius * rng.uniform(0.74, 0.93)
    if rng.random() < 0.35:  # the notch tells the camera's upright
        angle, width = np.deg2rad(rng.choice([45.0, 135.0])), radius * 0.045
        ny, nx = centre[0] - np.sin(angle) * radius, centre[1] + np.cos(angle) * radius
        field |= np.hypot(y - ny, x - nx) < width
    return field, centre, radius


def _draw(
    seed: int,
    traits: Traits,
    rng: np.random.Generator,
    size: int,
    eye: Eye,
    lesions: Mapping[str, int] | None,
) -> DrawnRetina:
    anatomy = lay_out(rng, traits, eye)
    field, (cy, cx), radius = _aperture(rng, size)
    origin = (cx - 0.5, cy - 0.5)  # (x, y), pixel centres at whole numbers
    width = 0.0122 * traits.calibre
    swing = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(5.0, 9.0))
    arteries = draw_branches(
        grow_tree(rng, anatomy, width * traits.artery_to_vein, swing=-swing), size, radius, origin
    )
    veins = draw_branches(grow_tree(rng, anatomy, width, swing=swing), size, radius, origin)
    masks = draw_lesions(rng, anatomy, _counts(rng, lesions), size, radius, origin)
    photo, disc = paint_fundus(rng, anatomy, arteries, veins, masks, field, size, radius, origin)
    inside = field.astype(np.float32)
    return DrawnRetina(
        photo=photo,
        arteries=arteries.coverage * inside,
        veins=veins.coverage * inside,
        disc=disc * inside,
        lesions={name: mask * inside for name, mask in masks.items()},
        field_of_view=field,
        disc_centre=(anatomy.disc[1] * radius + cy, anatomy.disc[0] * radius + cx),
        fovea_centre=(anatomy.fovea[1] * radius + cy, anatomy.fovea[0] * radius + cx),
        field_centre=(cy, cx),
        field_radius=radius,
        eye=eye,
        pigmentation=traits.pigmentation,
        seed=seed,
    )


def draw_retina(
    seed: int,
    size: int = 512,
    *,
    eye: Eye | None = None,
    pigmentation: float | None = None,
    lesions: Mapping[str, int] | None = None,
) -> DrawnRetina:
    """Draws one eye.

    Args:
        seed: everything random follows from it (NumPy's PCG64): the same seed gives the same bytes.
        size: side of the picture in pixels, at least 64.
        eye: ``"right"`` or ``"left"``; drawn when None.
        pigmentation: 0 light to 1 dark; drawn when None.
        lesions: how many of each type, e.g. ``{"haemorrhage": 5}``; ``{}`` for a healthy
            eye; drawn when None.

    Raises:
        ConfigError: an unknown lesion, an eye that is neither right nor left, or a size below 64.
    """
    if size < 64:
        raise ConfigError(f"A retina cannot be drawn at {size} pixels. Give a size of 64 or more.")
    if eye not in (None, *EYES):
        raise ConfigError(f"eye={eye!r} is not an eye. Give 'right' or 'left'.")
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    traits = draw_traits(rng, pigmentation)
    side: Eye = "right" if rng.random() < 0.5 else "left"
    return _draw(seed, traits, rng, size, eye or side, lesions)


def draw_patient(
    seed: int, size: int = 512, *, lesions: Mapping[str, int] | None = None
) -> tuple[DrawnRetina, DrawnRetina]:
    """Draws a person's right and left eye: shared traits, mirrored plan, vessels of their own.

    Fellow eyes resemble each other in colour, calibre, tortuosity, disc and the plan of their trunks, so
    retrieval demos have a same-patient truth.
    """
    traits = draw_traits(np.random.Generator(np.random.PCG64([seed, 2])))
    eyes: tuple[Eye, Eye] = ("right", "left")
    right, left = (
        _draw(seed, traits, np.random.Generator(np.random.PCG64([seed, 3 + index])), size, eye, lesions)
        for index, eye in enumerate(eyes)
    )
    return right, left


__all__ = ["LESION_TYPES", "Anatomy", "DrawnRetina", "Traits", "draw_patient", "draw_retina"]
