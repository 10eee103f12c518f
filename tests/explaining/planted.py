"""Drawn retinas with one lesion put where the test knows it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retina_fm.training.simulator.anatomy.drawn import draw_patient

EXUDATE = (250, 235, 120)


class Planted(NamedTuple):
    """A photo, and where ``(y, x)`` the lesion in it lies."""

    photo: np.ndarray
    place: tuple[float, float]


def plain(number: int, size: int) -> np.ndarray:
    """A drawn retina without lesions; every number is another patient's."""
    return np.asarray(draw_patient(number, size)[number % 2].photo)


def planted(number: int, size: int, radius: float = 0.12) -> Planted:
    """The same retina with a patch of exudates, off disc and edge, about as large as the disc."""
    retina = draw_patient(number, size)[number % 2]
    random = np.random.Generator(np.random.PCG64(number))
    y, x = np.mgrid[:size, :size] + 0.5
    middle, disc = np.array(retina.field_centre), np.array(retina.disc_centre)
    while True:
        place = middle + random.uniform(-0.75, 0.75, 2) * retina.field_radius
        off_edge = np.hypot(*(place - middle)) < 0.75 * retina.field_radius
        if off_edge and np.hypot(*(place - disc)) > 0.35 * retina.field_radius:
            break
    share = np.exp(-((((y - place[0]) ** 2 + (x - place[1]) ** 2) / (radius * size / 1.5) ** 2) ** 2))[
        ..., None
    ]
    photo = retina.photo * (1 - share) + np.array(EXUDATE) * share
    return Planted(np.rint(photo).astype(np.uint8), (float(place[0]), float(place[1])))


def pointed_at(peak: tuple[int, int], place: tuple[float, float], within: float) -> bool:
    """Whether a map's peak lies on the lesion, or not further off than ``within`` pixels."""
    return float(np.hypot(peak[0] + 0.5 - place[0], peak[1] + 0.5 - place[1])) <= within
