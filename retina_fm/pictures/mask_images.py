"""Masks out of files: the same formats and limits as photos, and values that mean what they show."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from retina_fm.errors import ConfigError
from retina_fm.pictures.reading import read_image

_PLAIN = ("1", "L", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")


def mask_image(path: str | os.PathLike[str], label: str) -> Image.Image:
    """A mask's file as an image, decoded and upright.

    Raises:
        PictureError: it cannot be read.
    """
    return read_image(path, label)


def mask_values(image: Image.Image, label: str) -> np.ndarray:
    """A mask's values as an array ``(H, W)``, or ``(H, W, 3)`` where they are colours.

    A palette's indices are classes where 0 is black, or no pixel has it; a palette of greys in another order
    is read by what it shows. What is transparent is black.

    Raises:
        ConfigError: a coloured palette of which nobody knows what is background.
    """
    if image.mode == "P" and "transparency" not in image.info:
        return _palette(image, label)
    if image.mode in _PLAIN and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        shown: Any = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return np.asarray((shown[..., :3] * shown[..., 3:] + 127) // 255, np.uint8)
    return np.asarray(image.convert("RGB"))


def _palette(image: Image.Image, label: str) -> np.ndarray:
    indices, shown = np.asarray(image), np.asarray(image.convert("RGB"))
    used, places = np.unique(indices, return_index=True)
    colours = shown.reshape(-1, 3)[places]
    black = (colours == 0).all(axis=1)
    if (used[black] == 0).all() and (used[0] != 0 or black[0]):
        return indices
    if (colours == colours[:, :1]).all():
        return np.asarray(shown[..., 0])
    raise ConfigError(
        f"{label} has a palette whose colour 0 is not black, so that nothing says which one is background. "
        "Save it in grey levels, 0 for background."
    )
