"""A heat map: where in a photo the evidence for one statement lies."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.files import write_bytes
from retina_fm._io.pages import picture_url
from retina_fm._notebook import fact_table, in_a_line
from retina_fm.errors import ConfigError, OutputError
from retina_fm.pictures.marks import png_notes

NOTE = "Where a classifier looks, not where a disease is. Research use; not a medical device."
_FOR, _AGAINST = (255, 96, 16), (48, 128, 255)
_MOST_OPAQUE = 0.75
_FAINT = 0.15  # share of the strongest below which nothing is drawn
_SHOWN_SIDE = 480
LEAST_LOG_ODDS = 0.1
"""Log-odds that are drawn at full strength, if nothing is stronger: at most 2.5 points of probability."""


@dataclass(frozen=True, repr=False)
class HeatMap:
    """Where in a photo the evidence for a class, or for a high measurement, lies.

    Attributes:
        picture: the photo, ``uint8 (H, W, 3)``.
        heat: ``float32 (H, W)`` in the photo's own pixels, 0 outside the field of view. Above 0: for the
            target, below 0: against it. ``occlusion``: by how much the log-odds of the class (or the
            measurement) fall when the window round the pixel is hidden. ``gradients``: what the pixels of
            that window contribute to them.
        target: the class, or ``value``.
        predicted: what the estimator said of it.
        method: ``occlusion`` or ``gradients``.
        least: value that is drawn at full strength where none is higher, so that a map of nothing looks like
            one.
    """

    picture: NDArray[np.uint8]
    heat: NDArray[np.float32]
    target: str
    predicted: str
    method: str
    least: float = 0.0

    def __repr__(self) -> str:
        return in_a_line("HeatMap", self._facts())

    def _repr_html_(self) -> str:
        """The overlay with what it shows, as notebooks show it."""
        image = picture_url(Image.fromarray(self.overlay()), _SHOWN_SIDE)
        return fact_table(f"Heat map: {self.target}", [*self._facts(), ("note", NOTE)], image)

    def _facts(self) -> list[tuple[str, str]]:
        height, width = self.heat.shape
        return [
            ("target", self.target),
            ("predicted", self.predicted),
            ("method", self.method),
            ("size", f"{width} x {height}"),
            ("strongest", self.strongest),
            ("at", "y {}, x {}".format(*self.peak)),
        ]

    @property
    def strongest(self) -> str:
        """The highest value, and that it is low where it is."""
        highest = float(self.heat.max())
        return f"{highest:.2g}" + (" (hardly anything)" if highest < self.least else "")

    @property
    def peak(self) -> tuple[int, int]:
        """The pixel ``(y, x)`` with the most evidence for the target: the middle of those that have it."""
        rows, columns = np.nonzero(self.heat >= self.heat.max())
        middle = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        return int(rows[middle]), int(columns[middle])

    def overlay(self) -> NDArray[np.uint8]:
        """The photo under its heat, ``uint8 (H, W, 3)``: orange for the target, blue against it."""
        colours = heat_colours(self.heat, self.least)
        share = colours[..., 3:].astype(np.float32) / 255
        mixed = self.picture * (1 - share) + colours[..., :3] * share
        return np.asarray(np.rint(mixed), np.uint8)

    def save(self, path: str | Path) -> Path:
        """Write the overlay as PNG, and beside it the map itself.

        Args:
            path: ``NAME.png`` for the overlay; the map goes to ``NAME.npy``, ``float32 (H, W)``.

        Returns:
            The overlay's path.

        Raises:
            ConfigError: the path ends otherwise.
            OutputError: it cannot be written.
        """
        target = Path(path)
        if target.suffix.lower() != ".png":
            raise ConfigError(f"{target.name}: a heat map is saved as .png, with the map itself in .npy.")
        overlay, raw = io.BytesIO(), io.BytesIO()
        notes = {"Comment": NOTE, **{name: value for name, value in self._facts() if name != "size"}}
        Image.fromarray(self.overlay()).save(overlay, "PNG", pnginfo=png_notes(notes))
        np.save(raw, self.heat)
        try:
            write_bytes(target.with_suffix(".npy"), raw.getvalue())
            write_bytes(target, overlay.getvalue())  # last: an overlay that is there has its map
        except OSError as error:
            raise OutputError(f"{target} cannot be written ({error}). Choose another place.") from error
        return target


def heat_colours(heat: NDArray[np.float32], least: float = 0.0) -> NDArray[np.uint8]:
    """A heat map as colours to lay over its photo, ``uint8 (H, W, 4)``.

    The strongest place is the most opaque, unless its value lies below ``least``.
    """
    strength = np.abs(heat) / max(float(np.abs(heat).max()), least, np.finfo(np.float32).tiny)
    opaque = np.clip((strength - _FAINT) / (1 - _FAINT), 0, 1) * _MOST_OPAQUE
    colours = np.empty((*heat.shape, 4), np.uint8)
    colours[..., :3] = np.where((heat > 0)[..., None], _FOR, _AGAINST)
    colours[..., 3] = np.rint(opaque * 255)
    return colours
