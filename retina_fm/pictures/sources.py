"""One photo or many: folders, globs, iterables, stacked arrays, drawn from only as far as needed."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.pictures import dicom, tables
from retina_fm.pictures.arrays import is_tensor
from retina_fm.pictures.reading import describe

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
    | dicom.SUFFIXES
)
"""Names that a folder's pictures end in, in any case."""
_IGNORED_FOLDERS = frozenset({"__MACOSX"})


def is_single(photos: Any) -> bool:
    """Whether this is one photo rather than many.

    Raises:
        PictureError: it is neither, or an array of a rank that means nothing.
    """
    if tables.is_table(photos):
        return False
    if isinstance(photos, str | os.PathLike):
        return not _exists(photos, os.path.isdir) and (
            _exists(photos, os.path.exists) or not _is_pattern(photos)
        )
    if isinstance(photos, bytes | bytearray | memoryview | dict | Image.Image) or hasattr(photos, "read"):
        return True
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
    """The photos one by one, in natural order for folders and globs.

    Raises:
        NoPicturesError: a folder or glob without pictures.
        PictureError: see :func:`is_single`.
    """
    if is_single(photos):
        yield photos
    elif isinstance(photos, str | os.PathLike):
        yield from _listed(photos)
    elif tables.is_table(photos):
        yield from tables.photos_of(photos)
    else:
        yield from photos


def count(photos: Any) -> int | None:
    """How many photos there are, or None where only drawing them would tell.

    Raises:
        NoPicturesError: a folder or glob without pictures.
    """
    if is_single(photos):
        return 1
    if isinstance(photos, str | os.PathLike):
        return len(_listed(photos))
    if isinstance(photos, Sequence | np.ndarray) or is_tensor(photos) or tables.is_table(photos):
        return len(photos) if hasattr(photos, "__len__") else None
    return None


def natural_key(path: str | Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``eye2`` before ``eye10``."""
    parts = re.split(r"(\d+)", Path(path).as_posix().casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _exists(photos: str | os.PathLike[str], test: Callable[[str], bool]) -> bool:
    try:
        return test(os.fspath(photos))  # os.path answers False where Path raises: a name that is too long
    except ValueError:  # a null byte, on some versions of Python
        return False


def _is_pattern(photos: str | os.PathLike[str]) -> bool:
    return glob.has_magic(os.fspath(photos))


def _listed(photos: str | os.PathLike[str]) -> list[Path]:
    root = Path(photos)
    if root.is_dir():
        found = list(_pictures_below(root))
        if not found:
            raise NoPicturesError(
                f"{photos}: no picture here or below. Pictures end in {', '.join(sorted(SUFFIXES))}."
            )
    else:
        matches = (Path(match) for match in glob.glob(os.fspath(photos), recursive=True))  # noqa: PTH207
        skipped = _IGNORED_FOLDERS - set(root.parts)  # unless the pattern names it
        found = [
            path
            for path in matches
            if _is_picture(path.name) and not skipped.intersection(path.parts) and path.is_file()
        ]
        if not found:
            raise NoPicturesError(f"{photos}: no picture matches. Quote the pattern, and check the folder.")
    return sorted(found, key=natural_key)


def _pictures_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _IGNORED_FOLDERS]
        yield from (Path(folder, name) for name in names if _is_picture(name))


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def _refuse(error: OSError) -> None:
    raise PictureError(f"{error.filename}: the folder cannot be listed ({error.strerror}).")
