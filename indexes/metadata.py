"""Metadata of pictures: from a table file, a data frame or plain dictionaries, and out of an index again."""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retina_fm._io.label_tables import read_label_table
from retina_fm._io.parquet_seals import check_parquet
from retina_fm._io.persons import is_blank, persons
from retina_fm.errors import ConfigError, MetadataWarning
from retina_fm.indexes.database import quoted
from retina_fm.indexes.state import State

PATIENT = "patient_id"
"""The column whose values are persons, however they are spelled."""
_SHOWN = 3
_TYPES: dict[str, Any] = {
    "INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string(), "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us"),
}  # fmt: skip
_BACK: dict[str, Callable[[Any], Any]] = {
    "BOOLEAN": bool, "DATE": datetime.date.fromisoformat, "TIMESTAMP": datetime.datetime.fromisoformat,
}  # fmt: skip


class Metadata(NamedTuple):
    """Metadata that belongs to pictures.

    Attributes:
        kinds: SQL type of each column.
        rows: values in the order of the columns, by stored path.
    """

    kinds: dict[str, str]
    rows: dict[str, tuple[Any, ...]]


def read_metadata(source: Any) -> tuple[pa.Table, Path | None]:
    """Metadata as a table, and the folder that its paths are relative to.

    Args:
        source: a ``.csv`` or ``.parquet`` file; a pandas data frame, an Arrow table; a list of dictionaries;
            a mapping of columns to lists, or of paths to dictionaries. CSV columns stay text, so that
            patient ``007`` does not become 7; spaces around a value go, and columns may be divided by
            semicolons or tabs.

    Raises:
        ConfigError: it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            if path.suffix.lower() == ".parquet":
                check_parquet(path)
                return pq.read_table(path), path.parent
            found = read_label_table(path, free=True)
            columns = {name: [row[name] or None for row in found.rows] for name in found.columns}
            if not columns:
                raise ConfigError("it is empty")
            return pa.table({n: pa.array(v, pa.string()) for n, v in columns.items()}), path.parent
        except (OSError, pa.ArrowInvalid, ConfigError) as error:
            raise ConfigError(
                f"The metadata {path} cannot be read ({error}); a CSV with a header is needed."
            ) from None
    try:
        if isinstance(source, pa.Table):
            return source, None
        if hasattr(source, "to_dict") and hasattr(source, "columns"):
            return pa.Table.from_pandas(source, preserve_index=False), None
        if isinstance(source, Mapping):
            if source and all(isinstance(value, Mapping) for value in source.values()):
                return pa.Table.from_pylist([{"path": str(k), **v} for k, v in source.items()]), None
            return pa.table({str(k): list(v) for k, v in source.items()}), None
        return pa.Table.from_pylist(list(source)), None
    except (TypeError, AttributeError, pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise ConfigError(
            f"The metadata ({type(source).__name__}) cannot be read ({error}); pass a CSV, a data frame, or "
            "a list of dictionaries with 'path'."
        ) from None


def incoming(
    source: Any,
    given: Sequence[str],
    known: Container[str],
    spellings: Callable[[str, Path | None], list[str]],
) -> Metadata:
    """Metadata by the paths of an index.

    Args:
        source: see :func:`read_metadata`; without a column ``path``, one row for each of ``given``.
        given: stored paths of the pictures that came together with the metadata.
        known: stored paths of all pictures that there will be.
        spellings: from a path in the metadata and its folder to the ways in which the index may call it.

    Raises:
        ConfigError: two different rows for a picture, or not one row that belongs to any.
    """
    table, folder = read_metadata(source)
    if "path" not in table.column_names:
        if table.num_rows != len(given):
            raise ConfigError(
                f"The metadata has no column 'path' and {table.num_rows} rows for {len(given)} pictures; "
                "add the column, or give one row a picture, in their order."
            )
        names: list[str | None] = list(given)
    else:
        paths = [str(path) for path in table.column("path").to_pylist()]
        names = [next((name for name in spellings(path, folder) if name in known), None) for path in paths]
        _tell_unknown([path for path, name in zip(paths, names, strict=True) if name is None], len(paths))
        table = table.drop_columns(["path"])
    columns = {name: _plain(table.column(number)) for number, name in enumerate(table.column_names)}
    values = zip(*(values for _, values in columns.values()), strict=True) if columns else [()] * len(names)
    rows: dict[str, tuple[Any, ...]] = {}
    for number, (name, row) in enumerate(zip(names, values, strict=True)):
        if name is not None and rows.setdefault(name, row) != row:
            raise ConfigError(
                f"The metadata has two different rows for {name!r} (the other is number {number + 1}); keep "
                "one."
            )
    return Metadata({name: kind for name, (kind, _) in columns.items()}, rows)


def describe(state: State, places: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    """Path and metadata of pictures, by place."""
    columns = ", ".join(["_place", "_path", *map(quoted, state.kinds)])
    back = [(number, _BACK[kind]) for number, kind in enumerate(state.kinds.values()) if kind in _BACK]
    found = {}
    for place, path, *values in state.among(columns, "_place", places):
        for number, convert in back:
            if values[number] is not None:
                values[number] = convert(values[number])
        found[place] = state.usable(str(path)), dict(zip(state.kinds, values, strict=True))
    return found


def column_kind(state: State, name: str) -> str:
    """SQL type of a metadata column.

    Raises:
        ConfigError: it is not there.
    """
    kinds = state.kinds
    if name not in kinds:
        raise ConfigError(
            f"There is no metadata column {name!r} ({', '.join(kinds) or 'none at all'}). Add metadata, or "
            "pass the values themselves."
        )
    return kinds[name]


def column_of(state: State, name: str) -> list[Any]:
    """A metadata column in the order of the live places.

    Raises:
        ConfigError: it is not there.
    """
    kind = column_kind(state, name)
    values = state.query(f"SELECT {quoted(name)} FROM picture ORDER BY _place")
    convert = _BACK.get(kind)
    return [value if convert is None or value is None else convert(value) for (value,) in values]


def comparable(column: str, values: list[Any]) -> list[Any]:
    """Values such that equal ones agree: persons in one spelling each, None for what agrees with nothing."""
    return persons(values) if column == PATIENT else [None if is_blank(value) else value for value in values]


def agree(column: str, one: Any, other: Any) -> bool:
    """Whether two values of a column are the same and not blank."""
    first, second = comparable(column, [one, other])
    return first is not None and bool(first == second)


def table_of(state: State) -> pa.Table:
    """All metadata in the order of the live places, nulls where a picture has none."""
    columns = {}
    for name, kind in state.kinds.items():
        values = column_of(state, name)
        broken = kind == "INTEGER" and any(isinstance(value, float) for value in values)
        columns[name] = pa.array(values, _TYPES["REAL" if broken else kind])
    return pa.table(columns)


def _tell_unknown(unknown: list[str], total: int) -> None:
    if not unknown:
        return
    shown = ", ".join(repr(path) for path in unknown[:_SHOWN])
    if len(unknown) == total:
        raise ConfigError(
            f"Not one path of the metadata is in the index (for example {shown}); paths are relative to the "
            "metadata's file."
        )
    warnings.warn(
        MetadataWarning(f"{len(unknown)} rows of metadata belong to no picture of the index: {shown}"),
        stacklevel=5,
    )


def _plain(column: pa.ChunkedArray) -> tuple[str, list[Any]]:
    """A column's SQL type, and its values as SQLite holds them; what it has no type for becomes text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = kind.value_type
    if pa.types.is_null(kind):
        return "", column.to_pylist()
    if pa.types.is_boolean(kind):
        return "BOOLEAN", column.to_pylist()
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "INTEGER", column.to_pylist()
    if pa.types.is_floating(kind):
        values = pc.cast(column, pa.float64()).to_pylist()
        return "REAL", [None if value is None or np.isnan(value) else value for value in values]
    if pa.types.is_date(kind):
        return "DATE", [None if value is None else value.isoformat()[:10] for value in column.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.tz is None:
        values = pc.cast(column, pa.timestamp("us"), safe=False).to_pylist()
        return "TIMESTAMP", [None if value is None else value.isoformat(" ") for value in values]
    return "TEXT", [None if value is None else str(value) for value in column.to_pylist()]
