"""Masks as users have them: which file belongs to which photo, and what its values mean."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures import describe, expand
from retina_fm.pictures.depth import seen_bits
from retina_fm.pictures.folders import SUFFIXES
from retina_fm.pictures.mask_images import mask_image, mask_values

MOST_CLASSES = 32
"""More distinct values than this are grey levels, not classes."""
_FAINT = 16  # of 255: below it, several levels are labels rather than coverage
_BEFORE = "_-."  # what may follow a photo's name in its mask's: p1_vessels, p1-1, p1.jpg
_AFTER = "_-"  # what may come before it: mask_p1


def read_mask(mask: Any, shape: tuple[int, int], name: str) -> np.ndarray:
    """A mask's own values, ``(H, W)``: for labels, where each value is a class. See :func:`read_coverage`.

    Args:
        mask: path, PIL image, or array ``(H, W)`` or ``(H, W, 1)``; colour masks are refused.
        shape: height and width of its photo.
        name: of the photo, for messages.

    Raises:
        PictureError: it cannot be read.
        ConfigError: it has another size than its photo, or is coloured.
    """
    label = f"mask {describe(mask)} of {name}"
    if isinstance(mask, str | os.PathLike):
        array = mask_values(mask_image(mask, label), label)
    elif isinstance(mask, Image.Image):
        array = mask_values(mask, label)
    else:
        array = np.asarray(mask)
    if array.ndim == 3 and array.shape[2] in (1, 3, 4):
        if array.shape[2] > 1 and not (array[..., :1] == array[..., :3]).all():
            raise ConfigError(f"{label} is coloured; save one class a grey value, or one mask a class.")
        array = array[..., 0]
    if array.ndim != 2:
        raise ConfigError(f"{label} has shape {array.shape}; a mask is (H, W).")
    if array.shape != tuple(shape):
        raise ConfigError(
            f"{label} has {array.shape[0]} x {array.shape[1]} pixels, the photo {shape[0]} x {shape[1]}. "
            "A mask lies in its photo's own pixels (after EXIF rotation); resize it with nearest neighbour."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ConfigError(f"{label} holds NaN or infinity; mark unknown pixels as background.")
    return array.astype(np.uint8) if array.dtype == bool else array


def read_coverage(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Coverage of a mask in [0, 1], whatever its colour: for masks that say where one thing lies.

    A black one is an answer (there is nothing), so it is read, too.

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


def mask_classes(masks: Iterable[np.ndarray], names: Sequence[str], threshold: float | None) -> np.ndarray:
    """The values that stand for classes, background first.

    Args:
        masks: of all photos, as :func:`read_mask` gives them; they are passed once.
        names: of their photos.
        threshold: values above it are the foreground of a binary mask; None takes values as classes.

    Raises:
        ConfigError: grey levels without a threshold, or no foreground anywhere.
    """
    if threshold is not None:
        if not any((mask > threshold).any() for mask in masks):
            raise ConfigError(f"No mask has a value above mask_threshold={threshold}; nothing can be learnt.")
        return np.array([0, 1])
    values: set[float] = set()
    for mask, name in zip(masks, names, strict=True):
        found = np.unique(mask)
        values |= set(found.tolist())
        fractions = found.dtype.kind == "f" and not (found == np.round(found)).all()
        grey = len(values) > 2 and (len(values) > MOST_CLASSES or max(values) >= 255)
        if fractions or grey:
            raise ConfigError(
                f"The mask of {name} holds grey values ({len(found)} levels, such as "
                f"{', '.join(f'{value:g}' for value in found[1:4])}): edges that were smoothed, or JPEG. "
                f"Pass mask_threshold={'0.5' if max(values) <= 1 else '127'} to take what lies above as "
                "foreground, or classes=[...] if the values are classes."
            )
    if len(values) < 2:
        raise ConfigError(
            f"All masks hold the value {values.pop():g} alone: there is nothing to tell apart. "
            "At least one mask needs foreground."
        )
    return np.array(sorted(values))


def checked_classes(classes: Any) -> np.ndarray:
    """Mask values that are classes, as they were given.

    Raises:
        ConfigError: fewer than two, or one twice.
    """
    values = np.asarray(classes)
    if values.ndim != 1 or len(values) < 2 or len(np.unique(values)) < len(values):
        raise ConfigError(
            f"classes is {classes!r}; give two different mask values or more, background first."
        )
    return values


def class_indices(mask: np.ndarray, classes: np.ndarray, threshold: float | None, name: str) -> np.ndarray:
    """Position of each pixel's class, ``uint8 (H, W)``.

    Raises:
        ConfigError: a value that is no class.
    """
    if threshold is not None:
        return (mask > threshold).astype(np.uint8)
    order = np.argsort(classes)
    index = order[np.searchsorted(classes, mask, sorter=order).clip(0, len(classes) - 1)]
    wrong = classes[index] != mask
    if wrong.any():
        raise ConfigError(
            f"The mask of {name} holds the value {mask[wrong][0]:g}, which is none of the classes "
            f"({', '.join(f'{value:g}' for value in classes)})."
        )
    return np.asarray(index, np.uint8)


def owner(mask: str, photos: Collection[str]) -> str | None:
    """The photo that a mask is named after.

    That is the photo of the same name; else the longest name that the mask's goes on from with ``_``, ``-``
    or ``.``; else the longest that it ends with after ``_`` or ``-``. So ``p1_2`` is a mask of ``p1`` only
    where there is no photo ``p1_2``.

    Args:
        mask: the mask's name without its suffix.
        photos: the photos' names likewise; a set, where there are many.
    """
    if mask in photos:
        return mask
    ends = (mask[:place] for place in range(len(mask) - 1, 0, -1) if mask[place] in _BEFORE)
    starts = (mask[place + 1 :] for place in range(1, len(mask) - 1) if mask[place] in _AFTER)
    return next((name for names in (ends, starts) for name in names if name in photos), None)


def masks_by_photo(photos: Iterable[str], masks: Iterable[str]) -> dict[str, list[str]]:
    """Masks of each photo by name, the photo's own name alone where there is one, else all in order.

    Photos without a mask are left out. Composed and decomposed accents are the same.
    """
    names = set(photos)
    spelling: Callable[[str], str] = _spelling
    known = {spelling(name): name for name in names}
    if len(known) < len(names):  # two photos differ in nothing else
        known, spelling = {name: name for name in names}, str
    found: dict[str, list[str]] = {}
    for mask in sorted(masks):
        name = owner(spelling(mask), known)
        if name is not None:
            found.setdefault(known[name], []).append(mask)
    own = {
        name: [mask for mask in of_it if spelling(mask) == spelling(name)] for name, of_it in found.items()
    }
    return {name: [name] if name in own[name] else own[name] or of_it for name, of_it in found.items()}


def _spelling(name: str) -> str:
    """One spelling of names whose accents are letters of their own on one disk and not on another."""
    return unicodedata.normalize("NFC", name)


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


def mask_list(masks: Any, photos: Sequence[Any]) -> list[Any]:
    """One mask a photo; a folder's masks are matched to the photos by name.

    Raises:
        ConfigError: another number of masks, or a photo without one.
    """
    if isinstance(masks, str | os.PathLike) and Path(masks).is_dir():
        return [match for _, match in pair_by_name(photos, list(expand(masks)))]
    if isinstance(masks, str | os.PathLike):
        raise ConfigError(f"masks={masks!r}: pass a folder, or a list with one mask a photo.")
    found = list(masks)
    if len(found) != len(photos):
        raise ConfigError(f"There are {len(photos)} photos and {len(found)} masks; give one mask each.")
    return found


def pair_by_name(photos: Sequence[Any], masks: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each photo with the mask that is named after it; see :func:`owner`.

    Raises:
        ConfigError: a photo has no mask, or several that fit; two photos of one name; photos without names.
    """
    if not all(isinstance(photo, str | os.PathLike) for photo in photos):
        raise ConfigError("A folder of masks goes with photos that have file names; pass a list of masks.")
    known: dict[str, Any] = {}
    for photo in photos:
        other = known.setdefault(Path(photo).stem, photo)
        if Path(other) != Path(photo):
            raise ConfigError(
                f"{describe(other)} and {describe(photo)} have one name, and masks go by names. "
                "Rename one, or pass lists."
            )
    paths: dict[str, list[Path]] = {}
    for mask in masks:
        paths.setdefault(Path(mask).stem, []).append(Path(mask))
    names = masks_by_photo(known, paths)
    pairs = []
    for photo in photos:
        stem = Path(photo).stem
        found = [path for name in names.get(stem, []) for path in paths[name]]
        if len(found) != 1:
            what = "no mask" if not found else f"{len(found)} masks ({', '.join(p.name for p in found[:3])})"
            raise ConfigError(
                f"{describe(photo)}: {what} of that name. Name it {stem}.png or {stem}_*.png, or pass lists."
            )
        pairs.append((photo, found[0]))
    return pairs


def dice(found: np.ndarray, wanted: np.ndarray) -> float:
    """Dice coefficient of two bool masks; 1 where both are empty."""
    total = int(found.sum()) + int(wanted.sum())
    return 2 * int((found & wanted).sum()) / total if total else 1.0
