"""Rows of pictures between the database in memory, which answers filters, and a table of LanceDB."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from retina_fm.indexes import database
from retina_fm.indexes.state import state_name

_OWN = [("_place", pa.int64()), ("_path", pa.string()), ("_size", pa.int64()), ("_mtime_ns", pa.int64()),
        ("_sha256", pa.string())]  # fmt: skip
_TYPES = {"INTEGER": pa.int64(), "REAL": pa.float64(), "BOOLEAN": pa.bool_()}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BATCH = 8192
_AT_ONCE = 10_000

CHANGED = (
    "CREATE TEMP TABLE IF NOT EXISTS changed (place INTEGER PRIMARY KEY)",
    "DELETE FROM changed",
    *(
        f"CREATE TEMP TRIGGER IF NOT EXISTS {name} AFTER {event} ON main.picture "
        f"BEGIN INSERT OR IGNORE INTO changed VALUES ({row}._place); END"
        for name, event, row in (("came", "INSERT", "NEW"), ("went", "DELETE", "OLD"))
    ),
)
"""Statements that let a database note which rows of pictures change."""


def columns_of(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Name, SQL type and name in LanceDB of each metadata column; odd names get a plain one."""
    kinds = database.metadata_columns(db)
    plain = {name.lower() for name in kinds}
    found = []
    for number, (name, kind) in enumerate(kinds.items()):
        column = name
        if not _PLAIN.fullmatch(name):
            column = f"column_{number}"
            while column in plain:
                column += "_"
        found.append((name, kind, column))
    return found


def schema_of(db: sqlite3.Connection, columns: Sequence[tuple[str, str, str]]) -> pa.Schema:
    """Of the table: whole numbers with a fraction among them become fractions, dates and times are text."""
    fields = list(_OWN)
    for name, kind, column in columns:
        sql = f"SELECT 1 FROM picture WHERE typeof({database.quoted(name)}) = 'real' LIMIT 1"
        broken = kind == "INTEGER" and db.execute(sql).fetchone()
        fields.append((column, pa.float64() if broken else _TYPES.get(kind, pa.string())))
    return pa.schema(fields)


def row_batches(
    db: sqlite3.Connection, columns: Sequence[tuple[str, str, str]], schema: pa.Schema, condition: str = "1"
) -> pa.RecordBatchReader:
    """Rows of the database as a stream of batches, in the order of their places."""
    names = ", ".join(["_place", "CAST(_path AS TEXT)", "_size", "_mtime_ns", "_sha256",
                       *(database.quoted(name) for name, _, _ in columns)])  # fmt: skip

    def made() -> Iterator[pa.RecordBatch]:
        cursor = db.execute(f"SELECT {names} FROM picture WHERE {condition} ORDER BY _place")
        while rows := cursor.fetchmany(_BATCH):
            arrays = []
            for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True):
                if kind == pa.bool_():
                    values = tuple(None if value is None else bool(value) for value in values)
                arrays.append(pa.array(values, kind))
            yield pa.record_batch(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, made())


def write_rows(table: Any, db: sqlite3.Connection, before: Sequence[tuple[str, str, str]] | None) -> bool:
    """Bring a table to what the database holds: what changed, or everything where its columns did.

    Args:
        table: LanceDB's table.
        db: whose table ``changed`` names the places that did.
        before: the columns that the table has; None to write everything.

    Returns:
        Whether anything was written.
    """
    columns = columns_of(db)
    schema = schema_of(db, columns)
    if before is None or list(before) != columns or table.schema != schema:
        table.add(row_batches(db, columns, schema), mode="overwrite")
        return True
    places = [place for (place,) in db.execute("SELECT place FROM changed ORDER BY place")]
    if not places:
        return False
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        table.delete(f"_place IN ({', '.join(map(str, some))})")
    table.add(row_batches(db, columns, schema, "_place IN (SELECT place FROM changed)"))
    return True


def read_rows(
    table: Any, db: sqlite3.Connection, columns: Sequence[tuple[str, str, str]], total: int
) -> None:
    """Fill the tables ``picture`` and ``removed`` of a database.

    Raises:
        ValueError: a place that is not there, or twice.
    """
    for name, kind, _ in columns:
        db.execute(f"ALTER TABLE picture ADD COLUMN {database.quoted(name)} {kind}")
    live = np.zeros(total, np.bool_)
    count = 0
    marks = ", ".join("?" * (6 + len(columns)))
    wanted = [name for name, _ in _OWN] + [column for _, _, column in columns]
    for batch in table.search().select(wanted).limit(max(1, table.count_rows())).to_batches():
        values = [batch.column(name).to_pylist() for name in wanted]
        values[1] = [state_name(path) for path in values[1]]
        values.insert(5, [None] * batch.num_rows)
        db.executemany(f"INSERT INTO picture VALUES ({marks})", zip(*values, strict=True))
        live[batch.column("_place").to_numpy()] = True
        count += batch.num_rows
    if count != int(live.sum()):
        raise ValueError("places occur twice")
    gone = np.flatnonzero(~live).tolist()
    db.executemany("INSERT INTO removed VALUES (?)", ((place,) for place in gone))
