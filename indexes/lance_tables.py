"""The tables of an index in LanceDB, and the one row that names a version of each.

* ``retina_fm_vectors``: ``_place``, ``embedding``, ``signature`` where the index has them, a CRC-32 of each,
  and ``point`` where the model's whitening is applied. Appended to; a place is a row's number.
* ``retina_fm_pictures``: a row a picture: path, file, metadata.
* ``retina_fm_model``: whitening and basis of the signatures, as they were when the index was made.
* ``retina_fm_commits``: one row with the settings and the versions of the other tables. Overwriting it is the
  commit: what was written to the others before is not part of the index, and the next writer takes it back.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from retina_fm.errors import IndexDamagedError, IndexMismatchError, IndexNotFoundError
from retina_fm.indexes.lance_places import COMMITS, LancePlace, load_lancedb, reading

FORMAT = 1
_ATTEMPTS = 5
VECTORS, PICTURES, MODEL = "retina_fm_vectors", "retina_fm_pictures", "retina_fm_model"
_SCHEMA = pa.schema([("commit", pa.int64()), ("settings", pa.string()), ("crc", pa.uint32())])


@dataclass(frozen=True)
class Commit:
    """What an index consists of.

    Attributes:
        number: of the commit, from 1.
        total: rows of vectors, those that are not to be found included.
        manifest: as :class:`retina_fm.indexes.state.Manifest` has it.
        versions: of each table, by name.
        columns: name, SQL type and name in LanceDB of each metadata column.
        filters: columns whose filters are to be fast.
        search: what is known of the approximate index; None without one.
        format: of this description.
    """

    number: int
    total: int
    manifest: dict[str, Any]
    versions: dict[str, int]
    columns: list[tuple[str, str, str]] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    search: dict[str, Any] | None = None
    format: int = FORMAT


def connect(place: LancePlace) -> Any:
    """LanceDB's connection; credentials of object stores come from the environment, as LanceDB reads them."""
    return load_lancedb().connect(place.uri)


def open_table(database: Any, name: str, version: int | None = None) -> Any:
    """A table at a version, or at its latest; that of a version does not change any more."""
    table = database.open_table(name)
    if version is not None:
        table.checkout(version)
    return table


def read_commit(place: LancePlace, database: Any = None) -> Commit:
    """What an index consists of now.

    Raises:
        IndexNotFoundError: there is no index.
        IndexDamagedError: it cannot be read, or was changed.
        IndexMismatchError: a newer release wrote it.
    """
    missing = IndexNotFoundError(
        f"{place} holds no index, or one that was never finished. 'retina-fm index PHOTOS --store {place}' "
        "makes one."
    )
    if not place.is_store():
        raise missing
    database = database or connect(place)
    for attempt in range(_ATTEMPTS):
        try:
            table = open_table(database, COMMITS)
        except (ValueError, FileNotFoundError):  # LanceDB's word for a table that is not there
            raise missing from None
        try:
            with reading(place):
                rows = table.search().limit(1).to_arrow().to_pylist()
            break
        except IndexDamagedError:  # a writer may have deleted that version since
            if attempt == _ATTEMPTS - 1:
                raise
    if not rows:
        raise missing
    text = rows[0]["settings"]
    if zlib.crc32(text.encode()) != rows[0]["crc"]:
        raise IndexDamagedError(f"{place}: its settings were changed; build it again in another store.")
    values = json.loads(text)
    if values.get("format") != FORMAT:
        raise IndexMismatchError(
            f"The index {place} has format {values.get('format')!r}, this release reads {FORMAT}; upgrade "
            "retina_fm or build it again."
        )
    columns = [(name, kind, column) for name, kind, column in values.pop("columns")]
    return Commit(columns=columns, **values)


def begin(database: Any) -> None:
    """Make the table of commits, without one, where there is none."""
    try:
        database.open_table(COMMITS)
    except (ValueError, FileNotFoundError):
        database.create_table(COMMITS, schema=_SCHEMA, exist_ok=True)


def write_commit(database: Any, commit: Commit) -> None:
    """Make a commit the state of the index, in one step."""
    text = json.dumps(asdict(commit))
    row = {"commit": [commit.number], "settings": [text], "crc": [zlib.crc32(text.encode())]}
    database.open_table(COMMITS).add(pa.table(row, schema=_SCHEMA), mode="overwrite")
