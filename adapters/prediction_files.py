"""Predictions written for people: masks with overlays, or a table of probabilities."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm._files import write_bytes, write_json, written_beside
from retina_fm.adapters.overlays import overlay
from retina_fm.errors import ConfigError, OutputError
from retina_fm.pictures import describe


def write_masks(
    estimator: Any, photos: Sequence[Any], out: Path, *, probabilities: bool = False
) -> list[Path]:
    """A mask, an overlay and, if wanted, a probability map a photo, as PNG.

    Masks of two classes hold 0 and 255, others the positions of their classes (``classes.json``).

    Raises:
        OutputError: two photos of the same name, or a folder that cannot be written.
    """
    names = [Path(describe(photo)).stem for photo in photos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OutputError(f"Photos share a name ({', '.join(twice[:3])}); predict their folders one by one.")
    written = []
    try:
        for photo, name in zip(photos, names, strict=True):
            label = estimator.predict([photo])[0]
            binary = int(label.max()) <= 1 and len(getattr(estimator, "classes_", (0, 1))) == 2
            path = out / f"{name}.png"
            _save(path, label * 255 if binary else label)
            _save(out / "overlays" / f"{name}.png", overlay(photo, label))
            if probabilities:
                probability = estimator.predict_proba([photo])[0]
                layers = probability[..., None] if probability.ndim == 2 else probability
                for c in range(layers.shape[2]):
                    ending = "" if layers.shape[2] == 1 else f"_{c}"
                    grey = np.rint(layers[..., c] * 255).astype(np.uint8)
                    _save(out / "probabilities" / f"{name}{ending}.png", grey)
            written.append(path)
        if hasattr(estimator, "classes_"):
            write_json(out / "classes.json", {"classes": estimator.classes_.tolist()})
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error}). Choose another --out.") from error
    return written


def write_table(estimator: Any, photos: Sequence[Any], out: Path) -> Path:
    """A CSV with a row a photo: its path, the prediction, and a probability a class.

    Raises:
        OutputError: it cannot be written.
    """
    path = out if out.suffix.lower() == ".csv" else out / "predictions.csv"
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    predicted = estimator.predict(photos)
    if hasattr(estimator, "classes_"):
        probability = estimator.predict_proba(photos)
        columns = [f"p_{name}" for name in estimator.classes_]
        writer.writerow(["path", "prediction", *columns])
        for photo, label, row in zip(photos, predicted, probability, strict=True):
            shown = label if np.ndim(label) == 0 else "|".join(map(str, estimator.classes_[label > 0]))
            writer.writerow([describe(photo), shown, *(f"{value:.6f}" for value in row)])
    else:
        values = predicted.reshape(len(predicted), -1)
        writer.writerow(
            ["path", *(f"value_{t}" if values.shape[1] > 1 else "value" for t in range(values.shape[1]))]
        )
        for photo, row in zip(photos, values, strict=True):
            writer.writerow([describe(photo), *(f"{value:.6g}" for value in row)])
    try:
        write_bytes(path, buffer.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error}). Choose another --out.") from error
    return path


def read_labels(
    table: Path, column: str, *, images: Path | None = None, several: bool = False
) -> dict[str, list[Any]]:
    """A labels.csv as lists: ``path``, the labels, and ``patient_id`` and ``split`` where they are columns.

    Args:
        table: with a column ``path``, relative to the table (or to ``images``).
        column: of the labels; empty ones are left out.
        images: folder that the paths are relative to.
        several: labels are joined by ``|``.

    Raises:
        ConfigError: no such table or column, or no row with a label.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{table} cannot be read as CSV ({error}). It needs the columns path and {column}."
        ) from None
    columns = list(rows[0]) if rows else []
    for needed in ("path", column):
        if needed not in columns:
            raise ConfigError(f"{table} has no column {needed!r}; it has {', '.join(columns) or 'no rows'}.")
    rows = [row for row in rows if row[column] not in (None, "")]
    if not rows:
        raise ConfigError(f"{table}: no row has a value in {column!r}.")
    base = images or (table.parent / "images" if (table.parent / "images").is_dir() else table.parent)
    found: dict[str, list[Any]] = {
        "path": [str(base / row["path"]) for row in rows],
        "label": [row[column].split("|") if several else row[column] for row in rows],
    }
    for extra in ("patient_id", "split", "use"):
        if extra in columns:
            found[extra] = [row[extra] for row in rows]
    return found


def _save(path: Path, pixels: np.ndarray) -> None:
    with written_beside(path) as scratch:
        Image.fromarray(pixels).save(scratch, format="PNG")
