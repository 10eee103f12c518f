"""Metadata of pictures, from a table file, a data frame or plain dictionaries."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, MetadataWarning
from retina_fm.indexes.snapshot import Snapshot

_SHOWN = 3


def read_metadata(source: Any) -> tuple[pa.Table, Path | None]:
    """Metadata as a table, and the folder that its paths are relative to.

    Args:
        source: a ``.csv`` or ``.parquet`` file; a pandas data frame, an Arrow table; a list of dictionaries;
            a mapping of columns to lists, or of paths to dictionaries. CSV columns stay text, so that
            patient ``007`` does not become 7.

    Raises:
        ConfigError: it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            if path.suffix.lower() == ".parquet":
                return pq.read_table(path), path.parent
            parse = pacsv.ParseOptions(newlines_in_values=True)
            names = pacsv.open_csv(path, parse_options=parse).schema.names
            kinds = pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            )
            return pacsv.read_csv(path, parse_options=parse, convert_options=kinds), path.parent
        except (OSError, pa.ArrowInvalid, UnicodeDecodeError) as error:
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


def merged_metadata(
    old: pa.Table | None,
    source: Any,
    snapshot: Snapshot,
    places: NDArray[np.int64],
    stored: Callable[[str, Path | None], list[str]],
) -> pa.Table:
    """The metadata of an index after new metadata was given; what it had for other pictures stays.

    Args:
        old: what the index has, or None.
        source: see :func:`read_metadata`; without a column ``path``, one row for each of ``places``.
        snapshot: the index.
        places: positions of the pictures that were given together with the metadata.
        stored: from a path in the metadata and its folder to the ways in which the index may call it.

    Raises:
        ConfigError: two different rows for a picture, or not one row that belongs to any.
    """
    table, folder = read_metadata(source)
    if "path" not in table.column_names:
        if table.num_rows != len(places):
            raise ConfigError(
                f"The metadata has no column 'path' and {table.num_rows} rows for {len(places)} pictures; "
                "add the column, or give one row a picture, in their order."
            )
        table = table.add_column(0, "path", snapshot.paths.take(pa.array(places)))
        named = table
    else:
        named = _matched(table, folder, snapshot, stored)
    named = _unique(named)
    if old is None or not old.num_rows:
        return named
    new_paths = set(named.column("path").to_pylist())
    kept = old.filter(pa.array([path not in new_paths for path in old.column("path").to_pylist()]))
    return pa.concat_tables([kept, named], promote_options="permissive")


def aligned(metadata: pa.Table | None, paths: Sequence[str]) -> pa.Table:
    """Metadata in the order of some stored paths, with nulls where there is none, and without ``path``."""
    if metadata is None:
        return pa.table({})
    places = {path: number for number, path in enumerate(metadata.column("path").to_pylist())}
    order = pa.array([places.get(path) for path in paths], pa.int64())
    return metadata.drop_columns(["path"]).take(order)


def _matched(
    table: pa.Table, folder: Path | None, snapshot: Snapshot, stored: Callable[[str, Path | None], list[str]]
) -> pa.Table:
    """Rows whose path is in the index, with the path that the index uses."""
    live = snapshot.live_positions
    known = set(snapshot.paths.take(pa.array(live)).to_pylist())
    rows, names, unknown = [], [], []
    for number, path in enumerate(table.column("path").to_pylist()):
        name = next((name for name in stored(str(path), folder) if name in known), None)
        if name is None:
            unknown.append(str(path))
        else:
            rows.append(number)
            names.append(name)
    if unknown:
        shown = ", ".join(repr(path) for path in unknown[:_SHOWN])
        if not rows:
            raise ConfigError(
                f"Not one path of the metadata is in the index (for example {shown}); paths are relative to "
                "the metadata's file."
            )
        warnings.warn(
            MetadataWarning(f"{len(unknown)} rows of metadata belong to no picture of the index: {shown}"),
            stacklevel=4,
        )
    taken = table.take(pa.array(rows, pa.int64()))
    return taken.set_column(taken.column_names.index("path"), "path", pa.array(names, pa.string()))


def _unique(table: pa.Table) -> pa.Table:
    """One row a path; repeated rows are dropped where they say the same.

    Raises:
        ConfigError: where they do not.
    """
    seen: dict[str, int] = {}
    keep = []
    rows = table.to_pylist() if len(set(table.column("path").to_pylist())) < table.num_rows else None
    if rows is None:
        return table
    for number, row in enumerate(rows):
        first = seen.setdefault(row["path"], number)
        if first == number:
            keep.append(number)
        elif rows[first] != row:
            raise ConfigError(
                f"The metadata has two different rows for {row['path']!r} ({first + 1} and {number + 1}); "
                "keep one."
            )
    return table.take(pa.array(keep, pa.int64()))
