"""What photos say of themselves, on its way into tables: behind pseudonyms, kept up in rows of before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm.pictures.pages import photo_of
from retina_fm.pictures.tags import COLUMNS, Tags, eye_of, file_tags

STATED = "pseudonyms"
"""Name in a table's metadata of the fingerprint of the key, where there is one."""
BOUNDS = "bounds"
"""Name there of what tells crop bounds that were given from others."""


def hidden(tags: Tags, pseudonyms: Pseudonyms | None) -> Tags:
    """Tags with the patient behind a pseudonym, where there are pseudonyms."""
    return tags if pseudonyms is None else tags._replace(patient_id=pseudonyms.of(tags.patient_id))


def stored_tags(path: str, folder: Path) -> Tags:
    """What the file of a row says.

    Args:
        path: of the row, relative to ``folder``, perhaps with a frame.
        folder: of the table.
    """
    return file_tags(photo_of(str(folder / path)))


def completed(
    row: pa.Table, columns: pa.Schema, given: Tags | None, folder: Path, pseudonyms: Pseudonyms | None
) -> pa.Table:
    """A row that was made before, with what is said of its photo now.

    Args:
        row: a table of one row.
        columns: it is to have; of a table by an earlier release, those of :data:`COLUMNS` may be missing.
        given: what the user's table says, if anything; it goes before what the row holds.
        folder: of the table, to read the file where columns are missing.
        pseudonyms: of patients, where they are to be hidden.
    """
    values: dict[str, Any] = {}
    missing = [name for name in COLUMNS if name not in row.column_names]
    if missing:
        said = hidden(stored_tags(str(row.column("path")[0]), folder), pseudonyms)
        values = {name: getattr(said, name) for name in missing}
    if given is not None:
        words = hidden(given, pseudonyms)
        values |= {name: word for name in COLUMNS if (word := getattr(words, name)) is not None}
        if "eye_source" in columns.names and "eye" in values:  # a row of measurements: words of ours alone
            eye = eye_of(values.pop("eye"))
            values |= {"eye": eye, "eye_source": "column", "eye_confidence": None} if eye else {}
    for name, value in values.items():
        field = columns.field(name)
        cell = pa.array([value], field.type)
        at = row.schema.get_field_index(name)
        row = row.append_column(field, cell) if at < 0 else row.set_column(at, field, cell)
    return row if row.column_names == columns.names else row.select(columns.names)
