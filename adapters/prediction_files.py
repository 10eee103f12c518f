"""Predictions written for people: masks with overlays, or a table of probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from retina_fm._io.files import write_bytes, write_json, written_beside
from retina_fm._io.folders import own_folder, refuse_link
from retina_fm._io.label_tables import (
    bases_of,
    known_name,
    one_spelling,
    placed,
    read_label_table,
    understood,
)
from retina_fm._io.persons import is_blank, is_nobody
from retina_fm._io.progress import progress_bar
from retina_fm._io.tables import csv_bytes, inert, inert_path
from retina_fm.errors import ConfigError, OutputError, PictureError
from retina_fm.pictures import describe
from retina_fm.pictures.bounds import file_name_of
from retina_fm.pictures.sheets import overlay

_AT_ONCE = 256
"""Photos that are embedded together: what a photo that cannot be read makes do again is a part of these."""


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


class WrittenTable(NamedTuple):
    """A table of predictions.

    Attributes:
        path: of the file.
        kept: positions of the photos that have a row.
        failed: what was wrong with each photo that could not be read.
    """

    path: Path
    kept: list[int]
    failed: list[str]


class Labels(NamedTuple):
    """Labelled photos of a table.

    Attributes:
        paths: of the photos.
        labels: one each, or a list each.
        patients: of each, nobody being a person of its own; None where the table names none.
        split: ``train``, ``val`` or ``test``; ``train`` where the table says nothing.
        understood: what was read, for people.
    """

    paths: list[str]
    labels: list[Any]
    patients: list[str] | None
    split: list[str]
    understood: str


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
    names = [file_name_of(photo) for photo in photos]
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


def write_table(
    estimator: Any,
    photos: Sequence[Any],
    out: Path,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> WrittenTable:
    """A CSV with a row a photo: its path, the prediction, a probability a class, and columns of one's own.

    What begins with ``=``, ``+``, ``-`` or ``@`` would be run by a spreadsheet: such a prediction stands
    behind an apostrophe (numbers stay numbers), such a path behind ``./``. A photo that cannot be read does
    not keep the others from their rows.

    Args:
        estimator: a classifier or regressor.
        photos: many photos.
        out: the file (``.csv``), or a folder for ``predictions.csv``.
        columns: of a table of labels, a value a photo.

    Raises:
        OutputError: it cannot be written.
        PictureError: not one photo can be read.
    """
    path = out if out.suffix.lower() == ".csv" else out / "predictions.csv"
    kept, embeddings, failed = _embedded(estimator, photos)
    head = estimator.head_
    predicted = np.asarray(head.predict(embeddings))
    names = [inert_path(describe(photos[number])) for number in kept]
    if hasattr(estimator, "classes_"):
        probability = np.asarray(head.predict_proba(embeddings))
        header = ["path", "prediction", *(f"p_{name}" for name in estimator.classes_)]
        rows = []
        for name, label, row in zip(names, predicted, probability, strict=True):
            shown = label if np.ndim(label) == 0 else "|".join(map(str, estimator.classes_[label > 0]))
            rows.append([name, inert(shown), *(f"{value:.6f}" for value in row)])
    else:
        values = predicted.reshape(len(predicted), -1)
        width = values.shape[1]
        header = ["path", *(f"value_{t}" if width > 1 else "value" for t in range(width))]
        rows = [[name, *(f"{v:.6g}" for v in row)] for name, row in zip(names, values, strict=True)]
    for name, given in (columns or {}).items():
        header.append(f"{name}_given" if name in header else name)
        rows = [[*row, inert(given[number])] for row, number in zip(rows, kept, strict=True)]
    with _writing(path):
        write_bytes(path, csv_bytes(header, rows))
    return WrittenTable(path, kept, failed)


def _embedded(estimator: Any, photos: Sequence[Any]) -> tuple[list[int], np.ndarray, list[str]]:
    """Positions and embeddings of the photos that can be read, and what is wrong with the others.

    Raises:
        PictureError: none can be.
    """
    kept: list[int] = []
    rows: list[np.ndarray] = []
    errors: list[PictureError] = []

    def take(first: int, end: int) -> None:
        try:
            rows.append(estimator.embed(photos[first:end]))
            kept.extend(range(first, end))
            bar.update(end - first)
        except PictureError as error:
            if end - first == 1:
                errors.append(error)
                bar.update(1)
                return
            middle = (first + end) // 2
            take(first, middle)
            take(middle, end)

    shown, bar = estimator.progress, progress_bar(estimator.progress, len(photos), "predict")
    estimator.progress = False  # one bar over all photos instead of one a part
    try:
        with bar:
            for first in range(0, len(photos), _AT_ONCE):
                take(first, min(first + _AT_ONCE, len(photos)))
    finally:
        estimator.progress = shown
    if errors and not rows:
        raise errors[0]
    return kept, np.concatenate(rows), [str(error) for error in errors]


def read_labels(
    table: Path, column: str, *, images: Path | None = None, several: bool = False, numbers: bool = False
) -> Labels:
    """A labels.csv as lists.

    Args:
        table: with a column ``path``, relative to ``images`` where it is given, else to the table or to a
            folder ``images`` beside it.
        column: of the labels; rows that have none (blank, ``NA``, ``unknown``) are left out, and so are those
            that a column ``use`` says no to.
        images: folder that the paths are relative to, from the working folder or the table's.
        several: labels are joined by ``|``.
        numbers: labels are measurements.

    Raises:
        ConfigError: no such table or column, a table that contradicts itself, or no row with a label.
    """
    read = read_label_table(table)
    column = column if column in read.columns else known_name(column)
    for needed in ("path", column):
        if needed not in read.columns:
            raise ConfigError(
                f"{table} has no column {needed!r}; it has {', '.join(read.columns) or 'no rows'}. It needs "
                f"the columns path and {column}."
            )
    values = [row[column] for row in read.rows]
    notes: list[str] = []
    if not numbers:
        values, notes = one_spelling(values, several=several)
    labelled = [not is_blank(value) for value in values]
    used = [row.get("use") != "no" for row in read.rows]
    keep = [number for number in range(len(values)) if labelled[number] and used[number]]
    if not keep:
        raise ConfigError(f"{table}: no row has a value in {column!r}.")
    left_out = {f"without a {column}": labelled.count(False), "with use=no": used.count(False)}
    rows, chosen = [read.rows[number] for number in keep], [values[number] for number in keep]
    split = [row["split"] or "train" for row in rows] if "split" in read.columns else ["train"] * len(rows)
    left_out["of split=test"] = split.count("test")
    seen = [value for value, part in zip(chosen, split, strict=True) if part != "test"]
    bases = bases_of(table, images)
    patients = None
    if not all(is_nobody(row.get("patient_id")) for row in rows):
        patients = [
            f"line {read.lines[number]} (nobody named)" if is_nobody(row["patient_id"]) else row["patient_id"]
            for number, row in zip(keep, rows, strict=True)
        ]
    return Labels(
        [str(placed(row["path"], bases)) for row in rows],
        [value.split("|") for value in chosen] if several else list(chosen),
        patients,
        split,
        understood(read, column, seen, left_out, notes=notes, numbers=numbers),
    )


def _save(path: Path, pixels: np.ndarray) -> None:
    with written_beside(path) as scratch:
        Image.fromarray(pixels).save(scratch, format="PNG")
