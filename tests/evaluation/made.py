"""Made data sets that the tests of evaluation share: tables of labels and features, folders of pictures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conftest import disc_picture
from retina_fm.evaluation.manifest import Manifest, Row
from retina_fm.evaluation.tasks import Task, classification_task


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def picture_set(folder: Path, patients: int = 12, size: int = 64, **columns: Any) -> Path:
    """Two pictures a patient with a label that alternates; the table is ``folder/labels.csv``."""
    rows = []
    for number in range(patients):
        for side, eye in enumerate(("left", "right")):
            name = f"{number:02d}_{eye}.png"
            picture = disc_picture(10 * number + side, size)
            if number % 2:
                picture[..., 0] //= 2
            (folder / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / "images" / name)
            values = {key: value(number) for key, value in columns.items()}
            rows.append(
                {"path": name, "patient_id": f"p{number}", "eye": eye, "label": "AB"[number % 2], **values}
            )
    return write_csv(folder / "labels.csv", rows)


def features_task(
    seed: int = 0, patients: int = 80, classes: int = 2, signal: float = 0.0, official: bool = False
) -> tuple[np.ndarray, Task]:
    """Features ``(2 * patients, 16)`` of both eyes and a task whose classes shift them by ``signal``."""
    random = np.random.default_rng(seed)
    rows, vectors = [], []
    for patient in range(patients):
        label = patient % classes
        person = random.normal(size=16)
        for eye in ("left", "right"):
            vector = person + 0.5 * random.normal(size=16)
            vector[label] += signal
            vectors.append(vector)
            split = ("test" if patient % 4 == 3 else "train") if official else ""
            name = f"{patient:03d}_{eye}.png"
            rows.append(Row(name, Path(name), f"p{patient}", label=f"c{label}", eye=eye, split=split))
    manifest = Manifest("made", tuple(rows), True, "0" * 64)
    return np.array(vectors), classification_task(manifest, "task", official_split=official)
