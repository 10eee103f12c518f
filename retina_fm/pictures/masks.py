"""Masks as users have them: files or arrays, checked against their photos, turned into class indices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm.errors import ConfigError
from retina_fm.pictures import describe, expand
from retina_fm.pictures.mask_images import mask_image, mask_values
from retina_fm.pictures.mask_names import masks_by_photo

MOST_CLASSES = 32
"""More distinct values than this are grey levels, not classes."""


def read_mask(mask: Any, shape: tuple[int, int], name: str) -> np.ndarray:
    """A mask's own values, ``(H, W)``.

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
    """Each photo with the mask that is named after it; see :mod:`retina_fm.pictures.mask_names`.

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
