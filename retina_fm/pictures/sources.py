"""One photo or many: folders, globs, iterables, stacked arrays, drawn from only as far as needed."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm.errors import PictureError
from retina_fm.pictures import dicom, tables, vendor
from retina_fm.pictures.arrays import is_tensor
from retina_fm.pictures.folders import SUFFIXES as SUFFIXES
from retina_fm.pictures.folders import Listing, list_folder, list_pattern
from retina_fm.pictures.folders import natural_key as natural_key
from retina_fm.pictures.photo_tables import is_photo_table, photos_named
from retina_fm.pictures.reading import describe

logger = logging.getLogger("retina_fm")


def is_single(photos: Any) -> bool:
    """Whether this is one photo rather than many.

    Raises:
        PictureError: it is neither, or an array of a rank that means nothing.
    """
    tables.refuse_frame(photos)
    if tables.is_table(photos) or tables.is_column(photos):
        return False
    if is_photo_table(photos):
        return False
    if isinstance(photos, str | os.PathLike):
        return not _exists(photos, os.path.isdir) and (
            _exists(photos, os.path.exists) or not _is_pattern(photos)
        )
    if isinstance(photos, bytes | bytearray | memoryview | dict | Image.Image) or hasattr(photos, "read"):
        return True
    if isinstance(photos, np.ndarray) and photos.dtype.kind in "OSU":  # of paths, or of photos
        return photos.ndim == 0
    if isinstance(photos, np.ndarray) or is_tensor(photos):
        if photos.ndim > 4:
            raise PictureError(f"{describe(photos)}: rank {photos.ndim}; many pictures are (N, H, W, 3).")
        return bool(photos.ndim < 4)
    if dicom.is_dataset(photos):
        return True
    if not isinstance(photos, Iterable):
        raise PictureError(
            f"{describe(photos)}: neither a photo nor many. Pass a path, a folder, an array or an iterable."
        )
    return False


def expand(photos: Any) -> Iterator[Any]:
    """The photos one by one, in natural order for folders and globs; says what it passed over there.

    Raises:
        NoPicturesError: a folder or glob without pictures.
        PictureError: see :func:`is_single`.
    """
    if is_single(photos):
        yield photos
    elif is_photo_table(photos):
        yield from photos_named(photos)
    elif isinstance(photos, str | os.PathLike):
        listing = _listed(photos)
        if listing.passed:
            level = logging.INFO if listing.is_usual else logging.WARNING
            logger.log(level, "%s: %s", ascii(os.fspath(photos))[1:-1], listing.passed_over())
        yield from each_of(listing)
    elif tables.is_table(photos):
        yield from tables.photos_of(photos)
    elif isinstance(photos, np.ndarray) and photos.dtype.kind in "OSU":
        yield from photos.flat
    elif tables.is_column(photos):
        yield from tables.values_of(photos)
    else:
        yield from photos


def count(photos: Any) -> int | None:
    """How many photos there are, or None where only drawing them would tell.

    Raises:
        NoPicturesError: a folder or glob without pictures.
    """
    if is_single(photos):
        return 1
    if is_photo_table(photos):
        return len(photos_named(photos))
    if isinstance(photos, str | os.PathLike):
        return len(each_of(_listed(photos)))
    if isinstance(photos, np.ndarray) and photos.dtype.kind in "OSU":
        return photos.size
    known = isinstance(photos, Sequence | np.ndarray) or is_tensor(photos) or tables.is_column(photos)
    return len(photos) if (known or tables.is_table(photos)) and hasattr(photos, "__len__") else None


def each_of(listing: Listing) -> list[Any]:
    """The pictures of a listing, a file with several by its frames."""
    found: list[Any] = []
    for path in listing.pictures:
        frames = vendor.frames_of(path)
        name = os.fspath(path)
        found += [path] if frames == 1 else [{"path": name, "frame": number} for number in range(frames)]
    return found


def _exists(photos: str | os.PathLike[str], test: Callable[[str], bool]) -> bool:
    try:
        return test(os.fspath(photos))  # os.path answers False where Path raises: a name that is too long
    except ValueError:  # a null byte, on some versions of Python
        return False


def _is_pattern(photos: str | os.PathLike[str]) -> bool:
    return glob.has_magic(os.fspath(photos))


def _listed(photos: str | os.PathLike[str]) -> Listing:
    if os.path.isdir(photos):  # noqa: PTH112  Path raises on names that os.path answers for
        return list_folder(Path(photos))
    return list_pattern(os.fspath(photos))
