"""Predictions written for people: masks with overlays, or a table of probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from retina_fm._io.files import write_bytes, write_json, written_beside
from retina_fm._io.folders import own_folder, refuse_link
from retina_fm._io.tables import csv_bytes, read_csv
from retina_fm.errors import ConfigError, OutputError, PictureError
from retina_fm.pictures import describe
from retina_fm.pictures.sheets import overlay


class Written(NamedTuple):
    """What became of the photos.

    Attributes:
        masks: files written now.
        skipped: photos whose mask was there already.
        failed: what was wrong with each photo that could not be read.
    """

    masks: list[Path]
    skipped: int
    failed: list[str]


def write_masks(
    estimator: Any,
    photos: Sequence[Any],
    out: Path,
    *,
    probabilities: bool = False,
    resume: bool = False,
) -> Written:
    """A mask, an overlay and, if wanted, a probability map a photo, as PNG.

    Masks of two classes hold 0 and 255, others the positions of their classes (``classes.json``). A photo
    that cannot be read does not keep the others from theirs.

    Args:
        estimator: a segmenter.
        photos: many photos.
        out: folder.
        probabilities: whether to write probability maps too.
        resume: leave photos out whose mask is there.

    Raises:
        OutputError: two photos of the same name, or a folder that cannot be written or holds something else.
    """
    names = [Path(describe(photo)).stem for photo in photos]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise OutputError(f"Photos share a name ({', '.join(twice[:3])}); predict their folders one by one.")
    found = Written([], 0, [])
    own_folder(out, "a folder of predictions", "classes.json")
    for part in ("overlays", "probabilities"):
        refuse_link(out / part)
    for photo, name in zip(photos, names, strict=True):
        path = out / f"{name}.png"
        if resume and path.exists():
            found = found._replace(skipped=found.skipped + 1)
            continue
        try:
            probability = estimator.predict_proba([photo])[0]
            label = estimator.label(probability)
            shown = overlay(photo, label)
        except PictureError as error:
            found.failed.append(str(error))
            continue
        binary = int(label.max()) <= 1 and len(getattr(estimator, "classes_", (0, 1))) == 2
        with _writing(out):
            if probabilities:
                _write_probabilities(probability, out / "probabilities", name)
            _save(out / "overlays" / path.name, shown)
            _save(path, label * 255 if binary else label)  # last: a mask that is there is a photo done
        found.masks.append(path)
    if hasattr(estimator, "classes_"):
        with _writing(out):
            write_json(out / "classes.json", {"classes": estimator.classes_.tolist()})
    return found


def _write_probabilities(probability: np.ndarray, folder: Path, name: str) -> None:
    layers = probability[..., None] if probability.ndim == 2 else probability
    for c in range(layers.shape[2]):
        ending = "" if layers.shape[2] == 1 else f"_{c}"
        _save(folder / f"{name}{ending}.png", np.rint(layers[..., c] * 255).astype(np.uint8))


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error}). Choose another --out.") from error


def write_table(estimator: Any, photos: Sequence[Any], out: Path) -> Path:
    """A CSV with a row a photo: its path, the prediction, and a probability a class.

    Raises:
        OutputError: it cannot be written.
    """
    path = out if out.suffix.lower() == ".csv" else out / "predictions.csv"
    predicted = estimator.predict(photos)
    if hasattr(estimator, "classes_"):
        probability = estimator.predict_proba(photos)
        columns = ["path", "prediction", *(f"p_{name}" for name in estimator.classes_)]
        rows = []
        for photo, label, row in zip(photos, predicted, probability, strict=True):
            shown = label if np.ndim(label) == 0 else "|".join(map(str, estimator.classes_[label > 0]))
            rows.append([describe(photo), shown, *(f"{value:.6f}" for value in row)])
    else:
        values = predicted.reshape(len(predicted), -1)
        width = values.shape[1]
        columns = ["path", *(f"value_{t}" if width > 1 else "value" for t in range(width))]
        rows = [
            [describe(photo), *(f"{value:.6g}" for value in row)]
            for photo, row in zip(photos, values, strict=True)
        ]
    with _writing(path):
        write_bytes(path, csv_bytes(columns, rows))
    return path


def read_labels(
    table: Path, column: str, *, images: Path | None = None, several: bool = False
) -> dict[str, list[Any]]:
    """A labels.csv as lists: ``path``, the labels, and ``patient_id`` and ``split`` where they are columns.

    Args:
        table: with a column ``path``, relative to ``images`` where it is given, else to the table or to a
            folder ``images`` beside it.
        column: of the labels; empty ones and ``nan`` are left out.
        images: folder that the paths are relative to.
        several: labels are joined by ``|``.

    Raises:
        ConfigError: no such table or column, or no row with a label.
    """
    try:
        rows = read_csv(table).rows
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{table} cannot be read as CSV ({error}). It needs the columns path and {column}."
        ) from None
    columns = list(rows[0]) if rows else []
    for needed in ("path", column):
        if needed not in columns:
            raise ConfigError(f"{table} has no column {needed!r}; it has {', '.join(columns) or 'no rows'}.")
    rows = [row for row in rows if (row[column] or "").strip().lower() not in ("", "nan")]
    if not rows:
        raise ConfigError(f"{table}: no row has a value in {column!r}.")
    bases = [images] if images else [table.parent, table.parent / "images"]
    found: dict[str, list[Any]] = {
        "path": [str(_placed(row["path"], bases)) for row in rows],
        "label": [row[column].split("|") if several else row[column] for row in rows],
    }
    for extra in ("patient_id", "split", "use"):
        if extra in columns:
            found[extra] = [row[extra] for row in rows]
    return found


def _placed(path: str, bases: Sequence[Path]) -> Path:
    places = [base / path for base in bases]
    return next((place for place in places if place.exists()), places[0])


def _save(path: Path, pixels: np.ndarray) -> None:
    with written_beside(path) as scratch:
        Image.fromarray(pixels).save(scratch, format="PNG")
