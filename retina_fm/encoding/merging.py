"""``merge``: the tables of all shards to the table that a single run would have written."""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from retina_fm._io.files import written_beside
from retina_fm._io.locks import locked
from retina_fm._io.parquet_seals import EMPTY, seal_parquet
from retina_fm._io.parquet_seals import KEY as SEAL
from retina_fm._io.scratch import hidden_name, scratch_folder
from retina_fm._notebook import fact_table, in_a_line
from retina_fm.encoding.formats import PARQUET
from retina_fm.encoding.parts import Part, files_of, read_parts
from retina_fm.encoding.rows import ROW_GROUP
from retina_fm.encoding.shards import ROOT, SHARD
from retina_fm.errors import ConfigError, MergeError, OutputError
from retina_fm.pictures.folders import natural_key
from retina_fm.pictures.pages import frame_of

_AT_ONCE = 64
"""Parts that are open together: more are first joined into scratch files, which are joined in turn."""
_BATCH = 256


@dataclass(frozen=True, repr=False)
class MergeReport:
    """What :func:`merge` did.

    Attributes:
        path: of the table.
        rows: in the table.
        parts: that it was made of.
    """

    path: Path
    rows: int
    parts: int

    def __repr__(self) -> str:
        return in_a_line("MergeReport", vars(self).items())

    def _repr_html_(self) -> str:
        """What was done, as notebooks show it."""
        return fact_table("MergeReport", vars(self).items())


def merge(
    parts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | Path,
    *,
    overwrite: bool = False,
) -> MergeReport:
    """Join the tables that ``encode_to`` or ``measure_to`` wrote of all shards of a folder.

    Nothing is written unless the parts are one whole: every shard once and finished, all of one folder, one
    model, one transform and the same columns, every row in the shard that its name says. The rows come in
    the order of a single run, so that ``encode_to`` of the whole folder goes on with the table. Memory is
    bounded: 64 parts are read side by side, some rows each; more take scratch beside ``out`` of its size.

    Args:
        parts: files, folders of ``.parquet`` files, and patterns.
        out: the table; ``path`` in it is relative to its folder.
        overwrite: replace a table that is there.

    Returns:
        Counts.

    Raises:
        MergeError: parts missing, doubled, damaged, unfinished, or of another model; each is named.
        OutputError: ``out`` is there, is one of the parts, or cannot be written.
    """
    table = Path(out)
    files = files_of([parts] if isinstance(parts, str | os.PathLike) else parts)
    _check_out(table, files, overwrite)
    whole = read_parts(files)
    busy = f"{table} is being written by another process; wait for it or name another file."
    with locked(table.parent / hidden_name(table.name, ".lock"), busy):
        try:
            rows = _write(whole, table)
        except OSError as error:
            raise OutputError(
                f"{table} cannot be written ({error.strerror or error}). Make room and run it again."
            ) from error
    return MergeReport(table, rows, len(whole))


def _check_out(table: Path, files: list[Path], overwrite: bool) -> None:
    if table.suffix.lower() not in PARQUET:
        raise ConfigError(f"{table} ends in {table.suffix}; merge writes .parquet.")
    if table.is_dir() or (table.exists() and any(table.samefile(one) for one in files if one.exists())):
        raise OutputError(f"{table} is a folder or one of the parts; name another file.")
    if table.exists() and not overwrite:
        raise OutputError(f"{table} is there already; name another file, or pass overwrite (--overwrite).")


def _write(parts: list[Part], table: Path) -> int:
    first = parts[0].schema
    metadata = {key: value for key, value in first.metadata.items() if key.decode() not in (SHARD, ROOT)}
    fields = [pa.field(field.name, _as_made(field.type)) for field in first]
    schema = pa.schema(fields, {**metadata, SEAL.encode(): EMPTY.encode()})
    sources = [
        _Source(part.path, os.path.abspath(part.path.parent), part.root, part)  # noqa: PTH100
        for part in parts
    ]
    table.parent.mkdir(parents=True, exist_ok=True)
    home = os.path.abspath(table.parent)  # noqa: PTH100
    with scratch_folder(table.with_name(hidden_name(table.name, ".merging"))) as scratch:
        names = (scratch / f"{number}.parquet" for number in itertools.count())
        while len(sources) > _AT_ONCE:
            joined = []
            for batch in _batched(sources, _AT_ONCE):
                path = next(names)
                _join(batch, path, schema, home)
                joined.append(_Source(path, home, batch[0].root, None))
                _forget(batch, scratch)
            sources = joined
        with written_beside(table) as beside:
            rows = _join(sources, beside, schema, home)
            seal_parquet(beside)
    return rows


def _as_made(kind: pa.DataType) -> pa.DataType:
    """A type as this package makes it: files call what is in lists ``element``."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type, kind.list_size)
    return pa.list_(kind.value_type) if pa.types.is_list(kind) else kind


class _Source(NamedTuple):
    """A table in order.

    Attributes:
        path: of the file.
        folder: that its paths are relative to, absolute.
        root: that was divided, absolute.
        part: what it says it is; None of one that was joined here.
    """

    path: Path
    folder: str
    root: str
    part: Part | None


class _Row(NamedTuple):
    """Where a row lies, with what orders it."""

    order: tuple[Any, str, int]
    path: str
    source: int
    batch: pa.RecordBatch
    at: int


def _join(sources: Sequence[_Source], out: Path, schema: pa.Schema, home: str) -> int:
    """Rows of tables that are in order each, in order; how many they were."""
    streams = [_rows(number, source, home) for number, source in enumerate(sources)]
    merged = heapq.merge(*streams, key=lambda row: row.order)
    count = 0
    with pq.ParquetWriter(out, schema, compression="none") as writer:
        while group := list(itertools.islice(merged, ROW_GROUP)):
            writer.write_table(_table(group, schema), row_group_size=ROW_GROUP)
            count += len(group)
    return count


def _rows(number: int, source: _Source, home: str) -> Iterator[_Row]:
    """The rows of a table, some in memory at a time."""
    with pq.ParquetFile(source.path) as file:
        groups = range(file.metadata.num_row_groups)  # one by one, or all of them come to lie in memory
        for batch in itertools.chain.from_iterable(file.iter_batches(_BATCH, [group]) for group in groups):
            for index, path in enumerate(batch.column("path").to_pylist()):
                name, frame = frame_of(_relative(path, source.folder, source.root))
                if source.part is not None and not source.part.shard.holds(name):
                    raise MergeError(
                        f"{source.path} says that it is shard {source.part.shard}, but {path} does not "
                        "belong there: its rows were changed, or it was moved away from the photos."
                    )
                order = (natural_key(name), name, frame)
                yield _Row(order, _relative(path, source.folder, home), number, batch, index)


def _table(group: list[_Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table: what was used of each batch lies in one piece there, so that little is copied."""
    spans: dict[tuple[int, int], list[_Row]] = {}
    for row in group:
        spans.setdefault((row.source, id(row.batch)), []).append(row)
    pieces, starts, length = [], {}, 0
    for key, rows in spans.items():
        first, last = rows[0].at, rows[-1].at
        pieces.append(rows[0].batch.slice(first, last - first + 1))
        starts[key] = length - first
        length += last - first + 1
    order = [starts[row.source, id(row.batch)] + row.at for row in group]
    plain = schema.remove_metadata()
    bare = [piece.replace_schema_metadata(None) for piece in pieces]
    rows = pa.Table.from_batches(bare).cast(plain).take(order).combine_chunks()
    paths = pa.array([row.path for row in group], schema.field("path").type)
    return rows.set_column(rows.column_names.index("path"), schema.field("path"), paths)


def _relative(path: str, folder: str, to: str) -> str:
    """A path that is relative to one folder as relative to another."""
    if folder == to:
        return path
    return Path(os.path.relpath(os.path.join(folder, path), to)).as_posix()  # noqa: PTH118  once a row


def _batched(sources: list[_Source], size: int) -> Iterator[list[_Source]]:
    for first in range(0, len(sources), size):
        yield sources[first : first + size]


def _forget(sources: list[_Source], scratch: Path) -> None:
    """Remove scratch that was joined into other scratch."""
    for source in sources:
        if source.path.parent == scratch:
            source.path.unlink()
