"""Drawn retinas in the forms in which one eye comes back: turned, zoomed, mirrored, as an angiogram."""

from __future__ import annotations

import numpy as np
from PIL import Image

from retina_fm.pictures import Transform
from retina_fm.training.simulator.anatomy.drawn import draw_retina


def eye(seed: int, size: int = 320) -> Image.Image:
    """A healthy drawn eye."""
    return Image.fromarray(draw_retina(seed, size, lesions={}).photo)


def angiogram(photo: Image.Image) -> Image.Image:
    """What was dark is bright, and all is grey; the aperture stays black."""
    picture = np.array(photo)
    grey = 255 - np.array(photo.convert("RGB"))[:, :, 1]
    grey[~picture.any(axis=2)] = 0
    return Image.fromarray(grey).convert("RGB")


def view_of(photo: Image.Image) -> np.ndarray:
    """As an encoder sees it."""
    return Transform(size=256).view(photo)[0]
