"""Manifests: one table a data set, checked when it is read, with one meaning for each column."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retina_fm._io.label_tables import one_spelling, read_label_table
from retina_fm._io.persons import is_nobody
from retina_fm._io.seals import write_table_output
from retina_fm._io.tables import csv_bytes
from retina_fm.errors import ManifestError, ManifestWarning
from retina_fm.vocabulary import EYES, SPLITS

COLUMNS = ("path", "label", "mask", "patient_id", "eye", "split", "modality")
"""Columns with a meaning; paths are relative to the table. Others are kept and may serve as labels."""


@dataclass(frozen=True)
class Row:
    """One picture of a data set.

    Attributes:
        name: path as written in the table; the picture's id in every result.
        path: where the file is.
        patient: opaque id; the picture's own name where the table names no patient.
        label: as written, empty where there is none; several labels are joined by a bar.
        mask: of vessels or of another structure.
        eye: ``left``, ``right`` or empty.
        split: ``train``, ``val``, ``test`` or empty.
        modality: free text, for example ``CF`` or ``FFA``.
        columns: the whole row as written.
    """

    name: str
    path: Path
    patient: str
    label: str = ""
    mask: Path | None = None
    eye: str = ""
    split: str = ""
    modality: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A data set.

    Attributes:
        name: of the set.
        rows: in the table's order.
        has_patients: whether the table names patients.
        sha256: of what was read, table and choice of rows; results carry it.
    """

    name: str
    rows: tuple[Row, ...]
    has_patients: bool
    sha256: str


def read_manifest(
    table: str | Path,
    *,
    name: str | None = None,
    images: str = "",
    keep: Mapping[str, Any] | None = None,
    check_files: bool = True,
) -> Manifest:
    """Read a manifest and check it.

    Args:
        table: CSV with a column ``path`` and any of :data:`COLUMNS`, UTF-8.
        name: of the set; the table's folder without it.
        images: folder beside the table that the paths are relative to.
        keep: only rows whose columns hold these values.
        check_files: whether every picture and mask must exist.

    Raises:
        ManifestError: no such table, no column ``path``, files that do not exist, a picture twice, an eye or
            a part that is none, a row of more or fewer cells than the header.
    """
    source = Path(table)
    read = read_label_table(source, refused=ManifestError, once=False)
    text, found = read.text, read.rows
    if not found or "path" not in found[0]:
        raise ManifestError(f"{source} has no rows with a column path. It needs one; others: {COLUMNS[1:]}.")
    for column in keep or {}:
        if column not in found[0]:
            raise ManifestError(f"{source} has no column {column!r} to choose rows by.")
    chosen = found
    for column, value in (keep or {}).items():
        asked = _kept(column, value)
        *held, wanted = one_spelling([*(row[column] for row in found), asked])[0]
        same = {id(row) for row, cell in zip(found, held, strict=True)
                if row[column] == asked or (wanted and cell == wanted)}  # fmt: skip
        chosen = [row for row in chosen if id(row) in same]
    if not chosen:
        raise ManifestError(f"{source} has no row with {dict(keep or {})}.")
    unused = sum(row.get("use") == "no" for row in chosen)
    if unused:
        warn(f'{source}: {unused} rows say use=no and are judged; keep = {{ use = "yes" }} leaves them out.')
    folder = source.parent / images if images else source.parent
    rows = tuple(_row(row, folder, source.parent) for row in chosen)
    _check_rows(source, rows, check_files)
    nobody = [row.name for row in rows if is_nobody(row.columns.get("patient_id"))]
    has_patients = not nobody
    if nobody and len(nobody) < len(rows):
        lacking = nobody[0]
        raise ManifestError(
            f"{source} names patients for some pictures only; {lacking} has none. Give each a patient_id."
        )
    identity = repr((text, images, sorted((keep or {}).items())))
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return Manifest(name or source.resolve().parent.name, rows, has_patients, digest)


def folder_manifest(
    images: str | Path, masks: str | Path | None = None, *, name: str | None = None, fields: str | Path = ""
) -> Manifest:
    """The manifest of a folder of pictures, with masks (and fields of view) of the same stems where given.

    Raises:
        ManifestError: no pictures, or a picture without its mask.
    """
    from retina_fm.errors import NoPicturesError
    from retina_fm.pictures import expand

    try:
        paths = [Path(str(path)) for path in expand(str(images))]
    except NoPicturesError as error:
        raise ManifestError(str(error)) from None
    rows = []
    for path in paths:
        mask = _same_stem(Path(masks), path) if masks else None
        inside = _same_stem(Path(fields), path) if fields else None
        columns = {"path": path.name, **({"field": str(inside)} if inside else {})}
        rows.append(Row(path.name, path, path.stem, mask=mask, columns=columns))
    digest = hashlib.sha256(repr([(row.name, row.path.stat().st_size) for row in rows]).encode()).hexdigest()
    return Manifest(name or Path(images).resolve().parent.name, tuple(rows), False, digest)


def write_manifest(path: str | Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write rows of a data set as a manifest, whole or not at all; known columns come first.

    Raises:
        ManifestError: there are none.
    """
    table = [dict(row) for row in rows]
    if not table:
        raise ManifestError(f"There are no pictures to write to {path}. Check the folder that was read.")
    present = {column for row in table for column in row}
    columns = [c for c in COLUMNS if c in present] + sorted(present - set(COLUMNS))
    data = csv_bytes(columns, ([row.get(column, "") for column in columns] for row in table))
    write_table_output(Path(path), data)
    return Path(path)


def _row(row: dict[str, str], images: Path, folder: Path) -> Row:
    def value(column: str) -> str:
        return (row.get(column) or "").strip()

    patient = value("patient_id")
    return Row(
        name=value("path"),
        path=images / value("path"),
        patient=value("path") if is_nobody(patient) else patient,
        label=value("label"),
        mask=folder / value("mask") if value("mask") else None,
        eye=value("eye").lower(),
        split=value("split").lower(),
        modality=value("modality"),
        columns={key: _placed(key, text or "", folder) for key, text in row.items() if key is not None},
    )


def _kept(column: str, value: Any) -> str:
    """A value to keep rows by, as a table has it; ``use`` may be asked for as true or false."""
    return {True: "yes", False: "no"}[value] if column == "use" and isinstance(value, bool) else str(value)


def _placed(key: str, text: str, folder: Path) -> str:
    """A row's value; fields of view are files beside the table, as masks are."""
    return str(folder / text) if key == "field" and text else text


def _check_rows(source: Path, rows: tuple[Row, ...], check_files: bool) -> None:
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if twice:
        raise ManifestError(f"{source} lists {_some(twice)} more than once. Keep one row a picture.")
    for what, allowed in (("eye", EYES), ("split", SPLITS)):
        strange = [row for row in rows if getattr(row, what) not in ("", *allowed)]
        if strange:
            raise ManifestError(
                f"{source}: {strange[0].name} has {what} {getattr(strange[0], what)!r}; "
                f"use {', '.join(allowed)}."
            )
    if check_files:
        missing = [row.name for row in rows if not row.path.is_file()]
        missing += [str(row.mask) for row in rows if row.mask is not None and not row.mask.is_file()]
        if missing:
            raise ManifestError(
                f"{source} names {len(missing)} files that do not exist: {_some(missing)}. "
                f"Paths are looked up under {rows[0].path.parent}; correct them or leave the rows out."
            )


def _same_stem(folder: Path, photo: Path) -> Path:
    found = sorted(path for path in folder.glob(f"{photo.stem}.*") if path.is_file())
    if not found:
        raise ManifestError(
            f"{photo.name} has no mask in {folder}. Add one of the same name, or take it out."
        )
    return found[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def warn(message: str) -> None:
    """Say something about the data once."""
    warnings.warn(ManifestWarning(message), stacklevel=3)
