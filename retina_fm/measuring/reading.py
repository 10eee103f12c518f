"""What everything is measured on: a view, its field, and the maps that a network drew over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.kinds import artery_share
from retina_fm.vessels.landmarks import SeenDisc, SeenFovea, disc_in, fovea_in
from retina_fm.vessels.skeleton import thinned

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

VESSEL_FROM = 0.5
"""Probability from which a pixel is vessel."""


@dataclass(frozen=True)
class Reading:
    """A view and its maps; all lengths are in its own pixels.

    Attributes:
        view: uint8 (S, S, 3), black outside the field of view.
        inside: field of view, bool (S, S).
        radius: of the field of view.
        maps: probabilities float32 (S, S) by name, 0 outside: ``vessel``, ``artery``, ``vein``, ``disc``,
            ``fovea`` and lesion types, those of them that the model maps.
    """

    view: NDArray[np.uint8]
    inside: Mask
    radius: float
    maps: Mapping[str, Map] = field(repr=False)

    @cached_property
    def disc(self) -> SeenDisc | None:
        """The optic disc, or None where it is not mapped or not seen."""
        return disc_in(self.maps["disc"], self.radius) if "disc" in self.maps else None

    @cached_property
    def fovea(self) -> SeenFovea | None:
        """The fovea, or None where it is not mapped or not seen."""
        return fovea_in(self.maps["fovea"], self.radius) if "fovea" in self.maps else None

    @cached_property
    def vessels(self) -> Mask:
        """Which pixels are vessel."""
        return self.maps["vessel"] >= VESSEL_FROM

    @cached_property
    def lines(self) -> Mask:
        """Centre lines of the vessels."""
        return thinned(self.vessels)

    @cached_property
    def artery_share(self) -> Map:
        """How much of each vessel is artery, float32 (S, S)."""
        return artery_share(self.maps["artery"], self.maps["vein"], self.maps["vessel"])

    @cached_property
    def from_disc(self) -> Map:
        """Distance of each pixel from the disc's margin, in disc diameters; below 0 inside it."""
        assert self.disc is not None
        y, x = (np.arange(length) + 0.5 for length in self.inside.shape)
        away = np.hypot(y[:, None] - self.disc.centre[0], x - self.disc.centre[1])
        return np.asarray((away - self.disc.radius) / (2 * self.disc.radius), np.float32)

    @cached_property
    def light(self) -> Map:
        """Green light in logs, float32 (S, S)."""
        return np.asarray(np.log(self.view[..., 1].astype(np.float32) + 4), np.float32)

    @cached_property
    def depth_inside(self) -> Map:
        """Distance of each pixel from the edge of the field."""
        distance = ndimage.distance_transform_edt(np.pad(self.inside, 1))[1:-1, 1:-1]
        return np.asarray(distance, np.float32)
