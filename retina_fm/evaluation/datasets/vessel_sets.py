"""Sets with vessels drawn by hand: DRIVE, RITE, STARE, CHASE_DB1, HRF, LES-AV, FIVES."""

from __future__ import annotations

import re
from pathlib import Path

from retina_fm.errors import LayoutError
from retina_fm.evaluation.datasets.layout import Raw, Rows, by_stem, maybe, one, pictures, relative


def drive(folder: Path) -> Rows:
    """DRIVE: ``training`` and ``test`` with ``images/21_training.tif``, ``1st_manual`` and ``mask``.

    The test part is left out where its labels are (recent downloads withhold them).
    """
    rows: list[Raw] = []
    for part, word in (("train", "training"), ("test", "test")):
        place = one(folder, word, f"the {part} part")
        drawn = maybe(place, "1st_manual")
        if drawn is None:
            continue
        labels, fields = by_stem(drawn), by_stem(one(place, "mask", "fields of view"))
        for path in pictures(one(place, "images", "photographs")):
            number = path.stem.split("_")[0]
            mask, inside = labels.get(f"{number}_manual1"), fields.get(f"{path.stem}_mask".lower())
            if mask is None or inside is None:
                raise LayoutError(f"{path.name} has no vessels in {drawn} or no field of view in mask.")
            rows.append({"path": path, "mask": mask, "field": inside, "split": part, "modality": "CF"})
    return relative(rows, folder)


def rite(folder: Path) -> Rows:
    """RITE: ``training`` and ``test`` with ``images``, ``vessel`` and ``av`` of the same stems."""
    rows: list[Raw] = []
    for part, word in (("train", "training"), ("test", "test")):
        place = one(folder, word, f"the {part} part")
        labels = by_stem(one(place, "vessel", "vessels"))
        trees = maybe(place, "av")
        colours = by_stem(trees) if trees is not None else {}
        for path in pictures(one(place, "images", "photographs")):
            mask = labels.get(path.stem.lower())
            if mask is None:
                raise LayoutError(f"{path.name} has no vessels in {place / 'vessel'}.")
            row: Raw = {"path": path, "mask": mask, "split": part, "modality": "CF"}
            if path.stem.lower() in colours:
                row["arteries_veins"] = colours[path.stem.lower()]
            rows.append(row)
    return relative(rows, folder)


def stare(folder: Path) -> Rows:
    """STARE: ``stare-images/im0001.ppm`` and ``labels-ah/im0001.ah.ppm`` (the first observer)."""
    images = one(folder, "stare-images", "photographs")
    labels = by_stem(one(folder, "labels-ah", "vessels of the first observer"))
    rows: list[Raw] = [
        {"path": path, "mask": labels[f"{path.stem}.ah".lower()], "modality": "CF"}
        for path in pictures(images)
        if f"{path.stem}.ah".lower() in labels
    ]
    if not rows:
        raise LayoutError(f"No photograph of {images} has vessels in labels-ah.")
    return relative(rows, folder)


def chase_db1(folder: Path) -> Rows:
    """CHASE_DB1: ``Image_01L.jpg`` with ``Image_01L_1stHO.png`` beside it; a number is a child."""
    found = by_stem(
        folder if maybe(folder, "Image_01L.jpg") is None else one(folder, "Image_01L.jpg", "").parent
    )
    rows: list[Raw] = []
    for stem, path in found.items():
        named = re.fullmatch(r"image_(\d+)([lr])", stem)
        if named is None:
            continue
        mask = found.get(f"{stem}_1stho")
        if mask is None:
            raise LayoutError(f"{path.name} has no {path.stem}_1stHO.png beside it.")
        eye = {"l": "left", "r": "right"}[named.group(2)]
        row: Raw = {
            "path": path,
            "mask": mask,
            "patient_id": f"child{named.group(1)}",
            "eye": eye,
            "modality": "CF",
        }
        rows.append(row)
    if not rows:
        raise LayoutError(f"{folder} has no photographs such as Image_01L.jpg.")
    return relative(rows, folder)


def hrf(folder: Path) -> Rows:
    """HRF: ``images/01_dr.JPG``, ``manual1/01_dr.tif``, ``mask/01_dr_mask.tif``; healthy, dr or g."""
    labels = by_stem(one(folder, "manual1", "vessels"))
    fields = by_stem(one(folder, "mask", "fields of view"))
    words = {"h": "healthy", "dr": "diabetic retinopathy", "g": "glaucoma"}
    rows: list[Raw] = []
    for path in pictures(one(folder, "images", "photographs")):
        stem = path.stem.lower()
        if stem not in labels or f"{stem}_mask" not in fields or stem.split("_")[-1] not in words:
            raise LayoutError(f"{path.name} has no vessels in manual1, no field in mask, or another name.")
        rows.append(
            {
                "path": path,
                "mask": labels[stem],
                "field": fields[f"{stem}_mask"],
                "label": words[stem.split("_")[-1]],
                "modality": "CF",
            }
        )
    return relative(rows, folder)


def les_av(folder: Path) -> Rows:
    """LES-AV: ``images``, ``masks``, ``vessel-segmentations`` of the same stems."""
    labels = by_stem(one(folder, "vessel-segmentations", "vessels"))
    place = maybe(folder, "masks")
    fields = by_stem(place) if place is not None else {}
    rows: list[Raw] = []
    for path in pictures(one(folder, "images", "photographs")):
        mask = labels.get(path.stem.lower())
        if mask is None:
            raise LayoutError(f"{path.name} has no vessels in vessel-segmentations.")
        row: Raw = {"path": path, "mask": mask, "modality": "CF"}
        inside = fields.get(path.stem.lower(), fields.get(f"{path.stem}_mask".lower()))
        if inside is not None:
            row["field"] = inside
        rows.append(row)
    return relative(rows, folder)


def fives(folder: Path) -> Rows:
    """FIVES: ``train`` and ``test`` with ``Original/1_A.png`` and ``Ground truth/1_A.png``; A, D, G or N."""
    words = {"a": "AMD", "d": "diabetic retinopathy", "g": "glaucoma", "n": "normal"}
    rows: list[Raw] = []
    for part in ("train", "test"):
        place = one(folder, part, f"the {part} part")
        labels = by_stem(one(place, "Ground truth", "vessels"))
        for path in pictures(one(place, "Original", "photographs")):
            mask, letter = labels.get(path.stem.lower()), path.stem.lower().split("_")[-1]
            if mask is None or letter not in words:
                raise LayoutError(f"{path.name} has no vessels in Ground truth, or another name.")
            row: Raw = {"path": path, "mask": mask, "label": words[letter], "split": part, "modality": "CF"}
            rows.append(row)
    return relative(rows, folder)
