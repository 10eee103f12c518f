"""Pictures to be looked at: masks drawn over their photos, many pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from retina_fm.pictures import read_picture

COLOURS = np.array(
    [(0, 0, 0), (64, 224, 96), (255, 96, 64), (64, 160, 255), (255, 208, 64), (208, 96, 255)], np.float32
)


def grid(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size and type, row by row on one sheet; places that are left at its end stay black."""
    left = -len(pictures) % columns
    tiles = [*pictures, *[np.zeros_like(pictures[0])] * left]
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows, 0)


def overlay(photo: Any, label: np.ndarray, *, opacity: float = 0.55) -> np.ndarray:
    """A photo with the classes of a label map in colour, ``uint8 (H, W, 3)``."""
    picture = read_picture(photo).astype(np.float32)
    colour: np.ndarray = COLOURS[1 + (label.astype(int) - 1) % (len(COLOURS) - 1)]
    share = np.where(label > 0, opacity, 0.0).astype(np.float32)[..., None]
    mixed = np.rint(picture * (1 - share) + colour * share)
    return np.asarray(mixed, np.uint8)


def comparison(photo: Any, found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Two bool masks against each other, ``uint8 (H, W, 3)``: green in both, red found alone, blue missed."""
    picture = read_picture(photo).astype(np.float32) * 0.6
    for mask, colour in (
        (found & wanted, (64, 224, 96)),
        (found & ~wanted, (255, 64, 64)),
        (~found & wanted, (64, 128, 255)),
    ):
        picture[mask] = colour
    return picture.astype(np.uint8)
