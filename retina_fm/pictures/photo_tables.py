"""Tables that name photos, with the columns ``id`` and ``path`` as fundus tools write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from retina_fm._io.label_tables import bases_of, placed, read_label_table
from retina_fm._io.persons import is_blank
from retina_fm.errors import PictureError

SUFFIXES = (".csv", ".tsv", ".txt")
CARRIED = ("id", "eye", "patient_id", "acquired", "spacing_um")
"""Columns that go along with each photo."""


def is_photo_table(photos: Any) -> bool:
    """Whether this is the name of a file that lists photos."""
    if not isinstance(photos, str | os.PathLike):
        return False
    name = os.fspath(photos)
    return isinstance(name, str) and name.lower().endswith(SUFFIXES) and os.path.isfile(name)  # noqa: PTH113


def photos_named(table: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The photos of a table, each a dict of its ``path`` and of what the table says beside it.

    Paths are relative to the table, to a folder ``images`` beside it, or to the working folder.

    Raises:
        PictureError: it cannot be read, or has no column ``path`` or no rows.
    """
    path = Path(table)
    read = read_label_table(path, refused=PictureError)
    if "path" not in read.columns or not read.rows:
        there = ", ".join(read.columns) or "no rows"
        raise PictureError(
            f"{path}: a table of photos needs a header with the column path, and rows; it has {there}."
        )
    names = {known: given for given in read.columns for known in CARRIED if given.casefold() == known}
    bases = [*bases_of(path), Path()]
    return [
        {
            "path": str(placed(row["path"], bases)),
            **{known: row[given] for known, given in names.items() if not is_blank(row[given])},
        }
        for row in read.rows
    ]
