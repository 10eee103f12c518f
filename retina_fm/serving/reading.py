"""What a process that decodes does: it reads photos of strangers, and does not import torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from retina_fm.encoding.work import Decoded, decode
from retina_fm.pictures import Transform, read_picture
from retina_fm.pictures.pages import photo_of


def view_within(photo: bytes, transform: Transform, pixels: int) -> Decoded:
    """A photo's view; one that cannot be read, or has more pixels, is a value with the reason."""
    with _at_most(pixels):
        return decode(0, photo, transform)


def thumbnail_within(path: str, side: int, pixels: int) -> bytes:
    """A file's picture as a small JPEG.

    Raises:
        PictureError: it cannot be read.
    """
    with _at_most(pixels):
        image = Image.fromarray(read_picture(photo_of(path)))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@contextmanager
def _at_most(pixels: int) -> Iterator[None]:
    """Pillow's limit, which is one of the whole process: such a process reads one photo at a time."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def nothing() -> None:
    """Lets a process begin before the first photo comes."""
