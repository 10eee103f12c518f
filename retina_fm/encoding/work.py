"""What a worker process does: one photo to its view. Imports neither torch nor this package's models."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from retina_fm.errors import PictureError
from retina_fm.pictures import Geometry, Transform


class Decoded(NamedTuple):
    """A photo that became a view, or the reason why it did not.

    Attributes:
        position: in the caller's order.
        view: ``uint8 (S, S, 3)``, or None.
        geometry: of the view in the picture, or None.
        error: what went wrong, or None.
    """

    position: int
    view: np.ndarray | None
    geometry: Geometry | None
    error: PictureError | None


def decode(position: int, photo: Any, transform: Transform) -> Decoded:
    """Read, find the field of view, crop and resize; a photo that cannot be read is a value, not a raise."""
    try:
        view, geometry = transform.view(photo)
    except PictureError as error:
        return Decoded(position, None, None, error.with_traceback(None))
    return Decoded(position, view, geometry, None)
