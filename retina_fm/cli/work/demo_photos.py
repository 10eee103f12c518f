"""The photos of a demonstration: drawn patients, one eye of each photographed twice; or the user's own."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from retina_fm._io.files import write_bytes
from retina_fm._io.folders import own_folder
from retina_fm._io.label_tables import one_spelling
from retina_fm._io.persons import is_blank
from retina_fm._io.processes import may_start_workers, start_workers
from retina_fm.pictures import expand
from retina_fm.pictures.marks import marked, png_notes
from retina_fm.vocabulary import Eye

if TYPE_CHECKING:
    from retina_fm.training.simulator.anatomy.drawn import DrawnRetina

PATIENTS = 8
SIZE = 448
LABELS = "labels.csv"
_COLUMNS = ("path", "patient_id", "eye", "visit", "label", "eye_id")
_LESIONS = {"haemorrhage": 6, "hard_exudate": 12, "microaneurysm": 14, "cotton_wool_spot": 2}
_DISEASED_EVERY = 2
_SHARES = (1.0, 0.5, 0.25, 0.12)
"""Of these counts, from one diseased patient to the next: all alike would be too easy to tell apart."""
_WORKERS = 2


@dataclass(frozen=True)
class Photos:
    """What a demonstration shows.

    Attributes:
        paths: of all photos.
        rows: what is known of each, as text by column; empty texts where it is not known.
        column: of the labels in them.
        drawn: whether they are the project's own drawings.
    """

    paths: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    column: str = "label"
    drawn: bool = False

    def values(self, column: str) -> list[str]:
        """A column, empty where it is missing."""
        return [row.get(column, "") for row in self.rows]

    def knows(self, *columns: str) -> bool:
        """Whether some photo has something in each of these columns."""
        return bool(self.rows) and all(any(not is_blank(v) for v in self.values(c)) for c in columns)


def draw_photos(folder: Path, patients: int = PATIENTS, size: int = SIZE, workers: int = _WORKERS) -> Photos:
    """Draw patients into a folder: both eyes, and one of them by a second camera; photos that are there stay.

    Every second patient has lesions, from many to few. Each photo carries the word SYNTHETIC outside its
    field of view and says so in its metadata. ``labels.csv`` beside them says who is who.

    Args:
        folder: of the photos.
        patients: how many.
        size: of a photo, pixels a side.
        workers: processes that draw; 0 draws here.
    """
    name = re.compile(rf"patient\d\d_(left|right)_[12]\.png|{re.escape(LABELS)}")
    own_folder(folder, "a folder of drawn photos", name)
    missing = [
        number
        for number in range(1, patients + 1)
        if not all((folder / row["path"]).is_file() for row in _rows_of(number))
    ]
    if workers and len(missing) > 1 and may_start_workers():
        with start_workers(min(workers, len(missing))) as pool:
            for done in [pool.submit(_draw_into, folder, number, size) for number in missing]:
                done.result()
    else:
        for number in missing:
            _draw_into(folder, number, size)
    rows = [row for number in range(1, patients + 1) for row in _rows_of(number)]
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(folder / LABELS, text.getvalue().encode())
    return Photos([str(folder / row["path"]) for row in rows], rows, drawn=True)


def named_photos(photos: Any, columns: Mapping[str, Sequence[str]], column: str = "label") -> Photos:
    """The user's photos with what a table says of them; a column ``eye_id`` joins patient and eye.

    Args:
        photos: any collection that ``expand`` takes.
        columns: a value a photo, or nothing.
        column: of the labels.
    """
    paths = [str(path) for path in expand(photos)]
    if not columns:
        return Photos(paths, column=column)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if column in columns:
        for row, label in zip(rows, one_spelling(list(columns[column]))[0], strict=True):
            row[column] = label
    for row in rows:
        known = [row.get(name, "") for name in ("patient_id", "eye")]
        if not any(map(is_blank, known)):
            row.setdefault("eye_id", " ".join(known))
    return Photos(paths, rows, column)


def second_photograph(retina: DrawnRetina, seed: Sequence[int]) -> NDArray[np.uint8]:
    """The same eye by another camera: turned, nearer, shifted, with other colours, haze, blur and noise.

    Args:
        retina: that was drawn.
        seed: everything random follows from it.
    """
    rng = np.random.Generator(np.random.PCG64(list(seed)))
    size = len(retina.photo)
    angle = math.radians(float(rng.uniform(4, 10)) * float(rng.choice([-1.0, 1.0])))
    zoom = float(rng.uniform(1.06, 1.14))
    shift = rng.uniform(-0.02, 0.02, 2) * size
    cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom
    y, x = retina.field_centre
    across, down = x + shift[0], y + shift[1]
    matrix = (
        cosine,
        sine,
        x - cosine * across - sine * down,
        -sine,
        cosine,
        y + sine * across - cosine * down,
    )
    turned = Image.fromarray(retina.photo).transform(
        (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    lit = np.asarray(
        Image.fromarray(retina.field_of_view.astype(np.uint8)).transform(
            (size, size), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
        )
    )
    blurred = turned.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.9))))
    levels = np.asarray(blurred, np.float32) / 255
    levels = levels ** rng.uniform(0.85, 1.2) * np.exp(rng.normal(0, 0.1, 3)) * rng.uniform(0.8, 1.1)
    haze = rng.uniform(0, 0.12)
    levels = levels * (1 - haze) + haze * np.array([0.6, 0.45, 0.3])
    levels = levels + rng.normal(0, 0.012, levels.shape)
    rows, columns = np.mgrid[:size, :size] + 0.5
    inside = (np.hypot(rows - size / 2, columns - size / 2) < 0.465 * size) & (lit > 0)
    return np.asarray((levels * inside[..., None]).clip(0, 1) * 255).round().astype(np.uint8)


def _rows_of(number: int) -> list[dict[str, str]]:
    patient = f"patient{number:02d}"
    return [
        {
            "path": f"{patient}_{eye}_{visit}.png",
            "patient_id": patient,
            "eye": eye,
            "visit": str(visit),
            "label": "healthy" if number % _DISEASED_EVERY else "diseased",
            "eye_id": f"{patient} {eye}",
        }
        for eye, visit in _photographs(number)
    ]


def _photographs(number: int) -> list[tuple[Eye, int]]:
    """Eye and visit of each photo of a patient; odd ones have the right eye twice, even ones the left."""
    twice: Eye = "right" if number % 2 else "left"
    return sorted([("left", 1), ("right", 1), (twice, 2)])


def _draw_into(folder: Path, number: int, size: int) -> None:
    from retina_fm.training.simulator.anatomy.drawn import draw_patient

    share = _SHARES[number // _DISEASED_EVERY % len(_SHARES) - 1]
    counts = {name: round(share * count) for name, count in _LESIONS.items()}
    lesions = {} if number % _DISEASED_EVERY else counts
    eyes = {retina.eye: retina for retina in draw_patient(number, size, lesions=lesions)}
    for eye, visit in _photographs(number):
        retina = eyes[eye]
        photo = retina.photo if visit == 1 else second_photograph(retina, [number, eye == "left"])
        buffer = io.BytesIO()
        Image.fromarray(marked(photo)).save(buffer, "PNG", pnginfo=png_notes(), compress_level=3)
        write_bytes(folder / f"patient{number:02d}_{eye}_{visit}.png", buffer.getvalue())


__all__ = ["PATIENTS", "Photos", "draw_photos", "named_photos", "second_photograph"]
