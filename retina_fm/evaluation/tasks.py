"""Tasks: which rows of a manifest are judged, as which class, and in which part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.label_tables import one_spelling
from retina_fm._io.persons import persons
from retina_fm.errors import ManifestError
from retina_fm.evaluation.manifest import Manifest, Row, warn


@dataclass(frozen=True)
class Task:
    """A classification (or retrieval) over rows of a manifest.

    Attributes:
        name: of the task.
        data: name of the manifest.
        rows: judged.
        positions: of these rows in the manifest, so that embeddings of the set can be taken.
        classes: names, in the order of the scores; empty for retrieval.
        truth: class number of each row.
        patients: of each row.
        official: part of each row (``train``, ``val``, ``test``), or None where draws decide.
        left_out: how many rows were not judged, a reason.
        sha256: of the manifest.
    """

    name: str
    data: str
    rows: tuple[Row, ...]
    positions: NDArray[np.int64]
    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    patients: NDArray[np.str_]
    official: NDArray[np.str_] | None
    left_out: dict[str, int]
    sha256: str

    @property
    def names(self) -> list[str]:
        """Ids of the rows."""
        return [row.name for row in self.rows]


def classification_task(
    manifest: Manifest,
    name: str | None = None,
    *,
    label: str = "label",
    positive: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
    official_split: bool = False,
    unlabelled: str = "raise",
) -> Task:
    """A task from a column of labels.

    Without ``positive`` and ``negative`` every label is a class of its own, in natural order. With them the
    problem is binary: a row is positive if any of its labels (joined by a bar) is listed as positive,
    negative if all of them are listed as negative, and left out otherwise. So normal against diabetes is
    ``positive=["D"], negative=["N"]``.

    Args:
        manifest: the data set.
        name: of the task; the set's and the column's without it.
        label: column.
        positive: labels of the second class.
        negative: labels of the first.
        official_split: use the column ``split`` instead of draws; rows without a part are left out.
        unlabelled: ``"skip"`` leaves rows without a label out and says so.

    Raises:
        ManifestError: no such column, labels missing, fewer than two classes, or an official split without
            a training or test part.
    """
    if label != "label" and label not in manifest.rows[0].columns:
        raise ManifestError(f"{manifest.name} has no column {label!r} of labels.")
    written = [row.label if label == "label" else row.columns[label] for row in manifest.rows]
    asked = [*(positive or ()), *(negative or ())]
    spelled, notes = one_spelling([*written, *asked], several=True)
    values, asked = spelled[: len(written)], spelled[len(written) :]
    if notes:
        warn(f"{manifest.name}, {label}: {'; '.join(notes)}: taken as one class each.")
    if positive is not None:
        positive, negative = asked[: len(positive)], asked[len(positive) :]
    missing = [row.name for row, value in zip(manifest.rows, values, strict=True) if not value]
    if len(missing) == len(values):
        raise ManifestError(f"{manifest.name}: no picture has a {label}. Fill the column, or name another.")
    if missing and unlabelled != "skip":
        raise ManifestError(
            f"{manifest.name}: {len(missing)} of {len(values)} pictures have no {label}, the first "
            f"{missing[0]}. Fill them in, or pass unlabelled='skip' to leave them out."
        )
    left_out = {"no label": len(missing)} if missing else {}
    if missing:
        warn(f"{manifest.name}: {len(missing)} pictures without a {label} are left out.")
    chosen = [_class_of(value, positive, negative) if value else None for value in values]
    neither = sum(1 for value, found in zip(values, chosen, strict=True) if value and found is None)
    if neither:
        left_out["neither positive nor negative"] = neither
    classes = (
        ("negative", "positive")
        if positive is not None
        else tuple(sorted(set(filter(None, chosen)), key=_natural))
    )
    keep = [index for index, found in enumerate(chosen) if found is not None]
    if official_split:
        without = [index for index in keep if not manifest.rows[index].split]
        if without:
            left_out["no part"] = len(without)
        keep = [index for index in keep if manifest.rows[index].split]
    rows = tuple(manifest.rows[index] for index in keep)
    number = {c: position for position, c in enumerate(classes)}
    truth = np.array([number[str(chosen[index])] for index in keep], np.int64)
    _check_classes(manifest.name, label, classes, truth)
    return Task(
        name=name or f"{manifest.name}-{label}",
        data=manifest.name,
        rows=rows,
        positions=np.array(keep, np.int64),
        classes=classes,
        truth=truth,
        patients=np.array([row.patient for row in rows]),
        official=_official(manifest.name, rows) if official_split else None,
        left_out=left_out,
        sha256=manifest.sha256,
    )


def retrieval_task(manifest: Manifest, name: str | None = None) -> Task:
    """The same-patient retrieval of a whole set.

    Raises:
        ManifestError: no patient has two pictures.
    """
    patients = np.array(one_person_each(manifest.rows))
    if len(set(patients.tolist())) == len(patients):
        raise ManifestError(
            f"{manifest.name}: no patient has two pictures, so none can be found again. Fill patient_id."
        )
    return Task(
        name=name or f"{manifest.name}-retrieval",
        data=manifest.name,
        rows=manifest.rows,
        positions=np.arange(len(patients)),
        classes=(),
        truth=np.zeros(len(patients), np.int64),
        patients=patients,
        official=None,
        left_out={},
        sha256=manifest.sha256,
    )


def one_person_each(rows: Sequence[Row]) -> list[str]:
    """The patient of each row in one spelling; a row whose patient nobody named is its own."""
    known = persons([None if row.patient == row.name else row.patient for row in rows])
    return [row.name if person is None else person for row, person in zip(rows, known, strict=True)]


def _class_of(value: str, positive: Sequence[str] | None, negative: Sequence[str] | None) -> str | None:
    if positive is None:
        return value
    labels = [part.strip() for part in value.split("|")]
    if any(part in positive for part in labels):
        return "positive"
    if all(part in (negative or ()) for part in labels):
        return "negative"
    return None


def _check_classes(data: str, label: str, classes: tuple[str, ...], truth: NDArray[np.int64]) -> None:
    counts = np.bincount(truth, minlength=len(classes))
    empty = [c for c, count in zip(classes, counts, strict=True) if not count]
    if len(classes) < 2 or empty:
        what = f"class {empty[0]} has no picture" if empty else f"there is one class alone, {classes[0]}"
        raise ManifestError(f"{data}, {label}: {what}. Two classes with pictures are needed.")


def _official(data: str, rows: tuple[Row, ...]) -> NDArray[np.str_]:
    parts = np.array([row.split for row in rows])
    for part in ("train", "test"):
        if part not in parts:
            raise ManifestError(
                f"{data} has no row in part {part!r}. Fill the column split, or let draws decide."
            )
    return parts


def _natural(value: str) -> tuple[Any, ...]:
    return (0, float(value), "") if value.replace(".", "", 1).isdigit() else (1, 0.0, value)
