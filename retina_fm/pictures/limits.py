"""What no photograph exceeds: checked on what a file says of itself, before memory or time is spent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from PIL import Image

from retina_fm.errors import PictureError, PictureTooLargeError

SMALLEST = 32
"""Fewer pixels a side than this hold no retina."""
LONGEST = 65_535
"""More pixels a side have neither cameras nor JPEG."""
MOST_PAGES = 1000
"""Pages of a TIFF that are looked at."""
_MOST_SCANS = 100  # an encoder writes ten or so; each costs a pass over all pixels
_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})  # markers without a length


def check_size(width: int, height: int, name: str, smallest: int = SMALLEST) -> None:
    """Refuse a size that nobody photographs, by ``PIL.Image.MAX_IMAGE_PIXELS`` among others.

    Raises:
        PictureError: no pixels, or fewer than ``smallest`` a side.
        PictureTooLargeError: more than 65,535 a side, or too many in all.
    """
    if width < 1 or height < 1:
        raise PictureError(f"{name}: it has no pixels ({width} x {height}).")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise PictureTooLargeError(
            f"{name}: too large ({width} x {height} pixels, the limit is {limit}). Reduce it, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
        )
    if max(width, height) > LONGEST:
        raise PictureTooLargeError(
            f"{name}: too large ({width} x {height} pixels, at most {LONGEST} a side)."
        )
    if min(width, height) < smallest:
        raise PictureError(
            f"{name}: {width} x {height} pixels; at least {smallest} a side are needed. Use the original."
        )


def check_scans(data: bytes, name: str) -> None:
    """Refuse a JPEG whose many scans would take minutes to decode.

    Raises:
        PictureError: more than 100 scans.
    """
    # counting is cheap and errs upwards (thumbnails, films that phones append); only then is it looked at
    if data.count(_SCAN) > _MOST_SCANS and (scans := _scans(data)) > _MOST_SCANS:
        raise PictureError(
            f"{name}: a JPEG of {scans} scans or more, at most {_MOST_SCANS} are read. Save it anew."
        )


def is_uncommon_jpeg(data: bytes) -> bool:
    """Whether a JPEG is lossless, hierarchical or arithmetically coded, which many decoders lack."""
    for kind in _markers(data):
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return kind > 0xC2
    return False


def _scans(data: bytes) -> int:
    """Start-of-scan markers before the end of the first picture, at most one more than the limit."""
    found = 0
    for kind in _markers(data):
        found += kind == 0xDA
        if kind == 0xD9 or found > _MOST_SCANS:
            break
    return found


def _markers(data: bytes) -> Iterator[int]:
    """Each marker of a JPEG; what segments hold is passed over."""
    place = 0
    while marker := _MARKER.search(data, place):
        kind, place = data[marker.start() + 1], marker.end()
        yield kind
        if kind not in _ALONE:
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
