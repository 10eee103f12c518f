"""Masks beside photos: which file belongs to which photo, and what its grey levels mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures.depth import seen_bits
from retina_fm.pictures.mask_images import mask_image
from retina_fm.pictures.mask_names import masks_by_photo
from retina_fm.pictures.sources import SUFFIXES

# How people call the folders of masks.
LESION_FOLDERS = {
    "microaneurysm": ("microaneurysm", "microaneurysms", "ma"),
    "haemorrhage": ("haemorrhage", "haemorrhages", "hemorrhage", "hemorrhages", "he"),
    "hard_exudate": ("hard_exudate", "hard_exudates", "exudates", "ex"),
    "cotton_wool_spot": ("cotton_wool_spot", "cotton_wool_spots", "soft_exudate", "soft_exudates", "se"),
    "drusen": ("drusen",),
    "scar": ("scar", "scars"),
}
_FAINT = 16  # of 255: below it, several levels are labels rather than coverage


def listed_masks(folder: Path) -> dict[str, Path]:
    """Pictures in ``folder`` by stem, the first by name where two share one."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            found.setdefault(path.stem, path)
    return found


def masks_of(photos: Iterable[Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """The mask of each photo by the photo's stem, the first by name of several; photos without are left out.

    A photo is not its own mask.
    """
    paths = set(photos)
    others = {stem: path for stem, path in masks.items() if path not in paths}
    names = masks_by_photo((photo.stem for photo in paths), others)
    return {photo: others[found[0]] for photo, found in names.items()}


def find_mask(folder: Path, photo: Path) -> Path | None:
    """The mask of a photo in ``folder``: same stem, or one named after it, such as ``_1stHO``.

    A mask that another photo beside this one is named after belongs to that one.
    """
    beside: Iterable[Path] = ()
    if photo.parent.is_dir() and photo.parent.resolve() != folder.resolve():
        beside = listed_masks(photo.parent).values()
    return masks_of({photo, *beside}, listed_masks(folder)).get(photo.stem)


def _plain(name: str) -> str:
    """``1. Soft Exudates`` as ``soft_exudates``."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"^[\d\W_]+", "", name.lower())).strip("_")


def _lesion_of(folder: Path) -> str | None:
    return next((name for name, known in LESION_FOLDERS.items() if _plain(folder.name) in known), None)


def _sub_folders(folder: str | os.PathLike[str]) -> list[Path]:
    children = sorted(Path(folder).iterdir())
    return [path for path in children if path.is_dir() and not path.name.startswith((".", "__"))]


def lesion_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Sub-folders of masks by type of lesion, whatever their case, spaces and leading numbers.

    Raises:
        ConfigError: no sub-folder has the name of a lesion, or two have the name of one.
    """
    found: dict[str, Path] = {}
    for child in _sub_folders(folder):
        name = _lesion_of(child)
        if name in found:
            raise ConfigError(
                f"{found[name].name!r} and {child.name!r} in {folder} are both folders of {name} masks. "
                "Merge them, or move one away."
            )
        if name is not None:
            found[name] = child
    if not found:
        raise ConfigError(
            f"{folder} has no folder named after a lesion. Name its sub-folders, for example: "
            + ", ".join(aliases[-1 if len(aliases) < 2 else 1] for aliases in LESION_FOLDERS.values())
        )
    return found


def ignored_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Sub-folders that :func:`lesion_folders` leaves out, because no lesion has their name."""
    return [child for child in _sub_folders(folder) if _lesion_of(child) is None]


def _levels(picture: Image.Image) -> NDArray[Any]:
    """The brightest channel, over black where a mask is transparent: red on black is as much as white."""
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return np.asarray(picture.convert("L"))
    if picture.mode.startswith(("I", "F")):
        return np.asarray(picture)
    if picture.has_transparency_data:
        colours = np.asarray(picture.convert("RGBA")).astype(np.float32)
        return np.asarray(np.rint(colours[..., :3].max(2) * colours[..., 3] / 255), np.uint8)
    return np.asarray(np.asarray(picture.convert("RGB")).max(2))


def read_mask(path: Path) -> NDArray[np.float32]:
    """Coverage of a mask in [0, 1]. A black one is an answer (there is nothing), so it is read, too.

    Raises:
        PictureError: it is no picture, or its levels do not say what is covered.
    """
    levels = _levels(mask_image(path, f"mask {path}"))
    try:
        return coverage(levels)
    except ConfigError as error:
        raise PictureError(f"{path}: {error}") from error


def coverage(levels: NDArray[Any]) -> NDArray[np.float32]:
    """Coverage in [0, 1] of a mask's levels: bool, whole numbers, or floats that are coverage already.

    Black and one other level is a mask, whatever that level; more levels are shares of 255, or of the most
    that 10, 12 or 16 bits hold.

    Raises:
        ConfigError: several levels, all nearly black: labels, of which nobody knows which one is meant.
    """
    if levels.dtype.kind == "f" and float(levels.max(initial=0)) <= 1:
        return np.asarray(levels, np.float32)
    top = levels.max(initial=0)
    if ((levels == 0) | (levels == top)).all():
        return np.asarray(levels > 0, np.float32)
    if top <= _FAINT:
        raise ConfigError(
            f"the mask has several levels, of which the brightest is {top:g} of 255; these look like labels. "
            "Give a mask for each label, with 0 and 255."
        )
    most = 2.0 ** seen_bits(levels) - 1 if levels.dtype.kind in "iu" else (255.0 if top <= 255 else 65535.0)
    return np.asarray(levels / most, np.float32)
