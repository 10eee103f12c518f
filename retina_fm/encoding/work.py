"""What a worker process does: one photo to its view. Imports neither torch nor this package's models."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from retina_fm.errors import PictureError
from retina_fm.pictures import Geometry, Transform, describe
from retina_fm.pictures.files import Stamp
from retina_fm.pictures.reading import opened
from retina_fm.pictures.tags import NOTHING, Tags, tags_of


class Decoded(NamedTuple):
    """A photo that became a view, or the reason why it did not.

    Attributes:
        position: in the caller's order.
        view: ``uint8 (S, S, 3)``, or None.
        geometry: of the view in the picture, or None.
        error: what went wrong, or None.
        stamp: size, time and hash of the bytes that were decoded, of a photo that is a file.
        tags: what these bytes, and the photo's row, say beside the pixels.
    """

    position: int
    view: np.ndarray | None
    geometry: Geometry | None
    error: PictureError | None
    stamp: Stamp | None = None
    tags: Tags = NOTHING


def views_of(items: list[Decoded]) -> np.ndarray:
    """Views ``uint8 (N, S, S, 3)`` of photos that could be read."""
    return np.stack([item.view for item in items if item.view is not None])


def decode(position: int, photo: Any, transform: Transform) -> Decoded:
    """Read once, find the field of view, crop and resize; what cannot be read is a value, not a raise."""
    try:
        content, stamp = opened(photo)
        view, geometry = transform.view(content, name=describe(photo))
    except PictureError as error:
        return Decoded(position, None, None, error.with_traceback(None))
    return Decoded(position, view, geometry, None, stamp, tags_of(photo, content))
