"""What lies in a folder: its pictures in natural order, and what was passed over."""

from __future__ import annotations

import errno
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.pictures import dicom, vendor

# fmt: off
SUFFIXES = frozenset({
    ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp", *dicom.SUFFIXES, *vendor.SUFFIXES,
})
# fmt: on
"""Names that a folder's pictures end in, in any case."""
_WITH_PLUGIN = {".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}
"""Names of pictures that some builds of Pillow read, or a plugin: counted where they cannot be."""
_IGNORED_FOLDERS = frozenset({"__MACOSX"})
_MAYBE_DICOM = re.compile(r"(\.\d*|\.ima)?", re.IGNORECASE)
_DIRECTORY = "DICOMDIR"  # a list of DICOM files, itself DICOM
_ENDINGS_SHOWN = 6
_BESIDE = frozenset({".csv", ".json", ".md", ".parquet", ".toml", ".tsv", ".txt", ".xls", ".xlsx"})
"""Names of what normally lies beside photographs: tables of labels and notes."""


@dataclass
class Listing:
    """Pictures of a folder or a pattern.

    Attributes:
        pictures: in natural order.
        passed: how many other files there were, by their ending or kind.
        wanted: which paths to look at; all without it.
        unwanted: how many were not looked at.
    """

    pictures: list[Path] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)
    wanted: Callable[[str], bool] | None = None
    unwanted: int = 0

    def passed_over(self) -> str:
        """What was passed over, in words."""
        kinds = sorted(self.passed.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{count} {kind}" for kind, count in kinds[:_ENDINGS_SHOWN]]
        if rest := sum(count for _, count in kinds[_ENDINGS_SHOWN:]):
            shown.append(f"{rest} others")
        total = self.passed.total()
        return f"{total} file{'s' * (total > 1)} passed over: {', '.join(shown)}"

    @property
    def is_usual(self) -> bool:
        """Whether tables and notes are all that was passed over."""
        return self.passed.keys() <= _BESIDE

    def add(self, path: str) -> None:
        """A file that is there: among the pictures, or counted."""
        name = os.path.basename(path)  # noqa: PTH119  a Path for each file of a large folder is slow
        if name.startswith("."):
            return
        if self.wanted is not None and not self.wanted(path):
            self.unwanted += 1
            return
        ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
        if os.path.isfile(path):  # noqa: PTH113
            kind = "picture" if _is_picture(path, name, ending) else ascii(ending)[1:-1] or "without ending"
        elif os.path.islink(path):  # noqa: PTH114  a picture that is lost is an error, not passed over
            kind = "picture" if ending in SUFFIXES else "link to nothing"
        else:
            kind = "pipe, socket or device"
        if kind == "picture":
            self.pictures.append(Path(path))
        else:
            self.passed[kind] += 1

    def sort(self) -> Listing:
        """Put the pictures in natural order."""
        self.pictures.sort(key=lambda path: (natural_key(path), os.fspath(path)))
        return self


def list_folder(root: Path, wanted: Callable[[str], bool] | None = None) -> Listing:
    """Pictures in a folder and below, linked folders among them, each folder once.

    With ``wanted``, only paths that it holds for are looked at and kept, and there may be none.

    Raises:
        NoPicturesError: there are none.
        PictureError: a folder cannot be listed.
    """
    listing = Listing(wanted=wanted)
    for path in _files_below(root, listing):
        listing.add(path)
    if not listing.pictures and not listing.unwanted:
        passed = f" {listing.passed_over()}." if listing.passed else ""
        raise NoPicturesError(
            f"{root}: no picture here or below.{passed} Pictures end in {', '.join(sorted(SUFFIXES))}."
        )
    return listing.sort()


def list_pattern(pattern: str, wanted: Callable[[str], bool] | None = None) -> Listing:
    """Pictures that match a pattern of :mod:`glob`; ``wanted`` as for :func:`list_folder`.

    Raises:
        NoPicturesError: there are none.
        PictureError: folders are nested too deep for a pattern.
    """
    skipped = _IGNORED_FOLDERS - set(Path(pattern).parts)  # unless the pattern names it
    listing = Listing(wanted=wanted)
    try:
        for match in glob.iglob(pattern, recursive=True):  # noqa: PTH207
            if not skipped.intersection(Path(match).parts) and not os.path.isdir(match):  # noqa: PTH112
                listing.add(match)
    except RecursionError:
        raise PictureError(
            f"{pattern}: folders nested too deep for a pattern. Pass the folder itself."
        ) from None
    if not listing.pictures and not listing.unwanted:
        raise NoPicturesError(f"{pattern}: no picture matches. Quote the pattern, and check the folder.")
    return listing.sort()


def natural_key(path: str | Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``eye2`` before ``eye10``."""
    parts = re.split(r"(\d+)", Path(path).as_posix().casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _files_below(root: Path, listing: Listing) -> Iterator[str]:
    """Every entry that is no folder. Not recursive: folders may be nested deeper than Python's stack."""
    seen = {_identity(folder) for folder in root.resolve().parents}  # no link leads up and out
    folders: list[str] = [os.fspath(root)]
    linked: list[str] = []
    while folders or linked:
        folder = folders.pop() if folders else linked.pop(0)  # a folder is met under its own name first
        try:
            identity = _identity(folder)
            if identity in seen:
                continue
            seen.add(identity)
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                listing.passed["folder nested too deep"] += 1
                continue
            raise PictureError(f"{folder}: the folder cannot be listed ({error.strerror}).") from None
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _IGNORED_FOLDERS:
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append(entry.path)
            else:
                yield entry.path


def _identity(folder: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_picture(path: str, name: str, ending: str) -> bool:
    if ending in _WITH_PLUGIN:
        Image.init()
        return _WITH_PLUGIN[ending] in Image.OPEN
    if ending in SUFFIXES:
        return True
    if ending == ".img":  # of disks and of much else, too
        return vendor.is_cube(name, os.path.getsize(path))  # noqa: PTH202
    if name == _DIRECTORY or not _MAYBE_DICOM.fullmatch(ending):
        return False
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            return dicom.looks_like_dicom(stream.read(dicom.HEAD))
    except OSError:
        return False
