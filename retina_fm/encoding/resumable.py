"""Rows of many photos into a Parquet table, in parts, so that a kill loses nothing."""

from __future__ import annotations

import hashlib
import itertools
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from retina_fm._io.files import canonical_json, written_beside
from retina_fm._io.folders import contents, refuse_link, remove_owned
from retina_fm._io.locks import locked
from retina_fm._io.parquet_seals import seal_parquet
from retina_fm._io.progress import progress_bar
from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm._io.scratch import hidden_name, sweep
from retina_fm._notebook import fact_table, in_a_line
from retina_fm.encoding.decoding import chosen_workers, decoded
from retina_fm.encoding.in_memory import batches, check_on_error, split_failures
from retina_fm.encoding.rows import ROW_GROUP, Key, RowReader, key_decoded, key_of, keys_in, write_part
from retina_fm.encoding.tagging import BOUNDS, STATED, completed
from retina_fm.encoding.work import Decoded
from retina_fm.errors import OutputError, SkippedPictures
from retina_fm.pictures import Transform, count, describe, expand, is_single
from retina_fm.pictures.tags import COLUMNS, NOTHING, Tags, given_tags

_PART = re.compile(r"\d{12}\.parquet")
_WRITE_EVERY = 1.0
"""Seconds of work that a kill may cost; on a slow device every batch is written at once."""


@dataclass(frozen=True, repr=False)
class TableReport:
    """What writing a table did.

    Attributes:
        path: of the table.
        rows: in the table.
        reused: rows that were there already, from an earlier table or an interrupted run.
        skipped: photos left out, each with its reason.
        seconds: from call to return.
        precision: number type and why it was chosen.
    """

    path: Path
    rows: int
    reused: int
    skipped: tuple[tuple[str, str], ...]
    seconds: float
    precision: str

    def __repr__(self) -> str:
        return in_a_line(type(self).__name__, self._facts())

    def _repr_html_(self) -> str:
        """What was done, as notebooks show it."""
        return fact_table(type(self).__name__, [*self._facts(), *self.skipped])

    def _facts(self) -> list[tuple[str, object]]:
        return [
            ("path", self.path), ("rows", self.rows), ("reused", self.reused), ("skipped", len(self.skipped)),
            ("seconds", round(self.seconds, 1)), ("precision", self.precision),
        ]  # fmt: skip


class Row(Protocol):
    """A row that was made; all but its key is its maker's business."""

    @property
    def key(self) -> Key:
        """What it belongs to."""
        ...


class Maker(Protocol):
    """Makes rows of decoded photos.

    Attributes:
        verb: of the function that users call.
        holds: what its tables hold, in the plural.
        transform: photo to view.
        batch_size: views that one call should get.
        on_gpu: whether a GPU computes.
        precision: number type and why it was chosen.
        schema: of the table; ``path``, ``file_size`` and ``file_mtime_ns`` are among its columns.
        identity: what determines a row beside its photo. What the schema's metadata states of it is compared
            with what a table states.
        optional: names of columns that a table may have or not, by the name of what states them.
        pseudonyms: of patients, or None where their ids stay as they are.
    """

    verb: str
    holds: str
    transform: Transform
    batch_size: int
    on_gpu: bool
    precision: str
    schema: pa.Schema
    identity: Mapping[str, str]
    optional: Mapping[str, str]
    pseudonyms: Pseudonyms | None

    def rows(self, keys: Sequence[Key], items: Sequence[Decoded], photos: Sequence[Any]) -> Sequence[Row]:
        """One row a decoded photo."""
        ...

    def table(self, rows: Sequence[Any]) -> pa.Table:
        """Rows as a table of the schema."""
        ...


def fill_table(
    photos: Any,
    out: str | Path,
    maker: Maker,
    *,
    workers: int | None,
    on_error: Literal["raise", "skip"],
    progress: bool | None,
    overwrite: bool,
    stated: Mapping[str, str] | None = None,
    stream: Callable[[Iterator[tuple[int, Any]]], Iterator[Decoded]] | None = None,
) -> tuple[TableReport, list[int]]:
    """Rows of any number of photos into a Parquet file, in bounded memory.

    See :func:`retina_fm.encode_to` for the arguments, what is reused and what is raised. What is ``stated``
    of a shard becomes part of what determines the table, so that one shard never takes the file of another.
    ``stream`` decodes photos, given with their positions, in place of worker processes here; whole batches
    come in any order.

    Returns:
        The report, and the positions of the photos that have a row.
    """
    started = time.monotonic()
    table = Path(out)
    if stated is not None:
        maker.identity = {**maker.identity, **stated}
        maker.schema = maker.schema.with_metadata({**maker.schema.metadata, **stated})
    store = _Store(table, maker, overwrite)
    total = 1 if is_single(photos) else count(photos)
    workers = chosen_workers(workers, total, maker.on_gpu)
    ahead = 2 * maker.batch_size + 2 * workers
    stream = stream or partial(decoded, transform=maker.transform, workers=workers, ahead=ahead)
    with store.locked():
        store.collect_finished()
        bar = progress_bar(progress, total, f"{maker.verb}, {maker.precision.partition(' ')[0]}")
        with bar:
            _make_missing(photos, maker, store, stream, on_error, bar)
        _write_table(store)
        store.clean()
    if store.unread:
        warnings.warn(SkippedPictures(*zip(*store.unread, strict=True)), stacklevel=3)
    report = TableReport(
        path=table,
        rows=len(store.order),
        reused=store.reused,
        skipped=tuple(store.skipped),
        seconds=time.monotonic() - started,
        precision=maker.precision,
    )
    return report, store.kept


def check_place(table: Path, on_error: str) -> None:
    """Refuse, before a model is loaded, what :func:`fill_table` cannot do.

    Raises:
        OutputError: the table is a folder, or lies in a file.
        ConfigError: ``on_error`` is another word.
    """
    check_on_error(on_error)
    if table.is_dir() or (table.parent.exists() and not table.parent.is_dir()):
        raise OutputError(f"{table} is a folder or lies in a file; name the Parquet file to write.")


def begun_parts(table: Path) -> list[Path]:
    """Folders of finished rows beside a table, of runs that have not ended, by whatever model."""
    form = re.compile(re.escape(hidden_name(table.name, ".")) + r"[0-9a-f]{8}\.parts")
    return [table.parent / name for name in contents(table.parent) if form.fullmatch(name)]


def _finished(parts: Path) -> list[str]:
    return [name for name in contents(parts) if _PART.fullmatch(name)]


class _Store:
    """The table, its parts, and which row lies where."""

    def __init__(self, table: Path, maker: Maker, overwrite: bool) -> None:
        digest = hashlib.sha256(canonical_json(dict(maker.identity))).hexdigest()[:8]
        self.table = table
        self.maker = maker
        self.schema = maker.schema
        self.parts = table.parent / hidden_name(table.name, f".{digest}.parts")
        self.where: dict[Key, tuple[Path, int]] = {}
        self.order: list[Key] = []
        self.changed: dict[Key, Key] = {}
        self.given: dict[Key, Tags] = {}
        self.reused = 0
        self.skipped: list[tuple[str, str]] = []
        self.unread: list[tuple[int, str]] = []  # positions in the input, and why
        self.kept: list[int] = []
        self._keep_old = self._compatible(overwrite)

    def locked(self) -> AbstractContextManager[None]:
        """One writer a table."""
        busy = f"{self.table} is being written by another process; wait for it or name another file."
        return locked(self.table.parent / hidden_name(self.table.name, ".lock"), busy)

    def collect_finished(self) -> None:
        """Learn which rows an earlier table or an interrupted run holds."""
        refuse_link(self.parts)
        files = sorted(self.parts / name for name in _finished(self.parts))
        if self._keep_old:
            files.append(self.table)
        for path in files:
            try:
                keys = keys_in(path)
            except (OSError, ValueError, KeyError) as error:
                raise OutputError(f"{path} cannot be read ({error}); remove it and run again.") from None
            self.where.update({key: (path, index) for index, key in enumerate(keys)})

    def write(self, first: int, rows: Sequence[Row]) -> None:
        """Make finished rows durable."""
        free = (f"{number:012d}.parquet" for number in itertools.count(first))
        path = next(path for path in map(self.parts.joinpath, free) if not path.exists())
        try:
            write_part(path, self.maker.table(rows))
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); what was finished before it is kept. "
                "Make room and run the same command again."
            ) from error
        self.where.update({row.key: (path, index) for index, row in enumerate(rows)})

    def clean(self) -> None:
        """Remove the parts, now that the table holds them, and those of other weights."""
        for parts in begun_parts(self.table):
            if parts.is_symlink():
                continue
            with suppress(OSError):  # what is not ours stays, and its folder with it
                remove_owned(parts, _finished(parts))
                sweep(parts)
                parts.rmdir()

    def _compatible(self, overwrite: bool) -> bool:
        if not self.table.exists():
            return False
        try:
            schema = pq.read_schema(self.table)
            found, names = schema.metadata or {}, schema.names
        except (OSError, pa.ArrowInvalid) as error:
            if overwrite:
                return False
            raise OutputError(
                f"{self.table} exists and is no Parquet table ({error}); remove it or name another file."
            ) from None
        optional = {**self.maker.optional, **dict.fromkeys(COLUMNS, STATED), "": BOUNDS}
        free = set(optional)  # what states them is compared below
        ours, there = set(self.schema.names) - free, set(names) - free
        added = sorted(there - ours)
        if added and not overwrite:
            raise OutputError(
                f"{self.table} has columns that {self.maker.verb} does not write ({', '.join(added[:5])}) "
                "and would lose. Name another file, or pass overwrite=True (--overwrite)."
            )
        if there != ours:
            return False
        wanted = self.schema.metadata
        for column, stated in optional.items():
            if found.get(stated.encode()) != wanted.get(stated.encode()):
                if overwrite:
                    return False
                have = _holds(column, stated, stated.encode() in found, stated.encode() in wanted)
                raise OutputError(
                    f"{self.table} holds {have}; remove it, name another file, or pass overwrite=True "
                    "(--overwrite)."
                )
        for field in (name.encode() for name in self.maker.identity if name.encode() in wanted):
            if found.get(field) != wanted[field]:
                if overwrite:
                    return False
                made_by = found.get(b"model", b"something else").decode()
                raise OutputError(
                    f"{self.table} holds {self.maker.holds} of {made_by} with another {field.decode()}; "
                    "remove it, name another file, or pass overwrite=True (--overwrite)."
                )
        return True


def _holds(column: str, stated: str, there: bool, asked: bool) -> str:
    """What a table holds instead of what was asked for."""
    if stated == STATED:
        if not there:
            return "patients' ids as they are"
        return "pseudonyms by another key" if asked else "pseudonyms, which were not asked for"
    if stated == BOUNDS:
        return "rows by other crop bounds" if there else "rows by our own search for the circle"
    if not asked:
        return f"{column}s, which were not asked for"
    return f"{column}s of another {stated}" if there else f"no {column}s"


def _make_missing(
    photos: Any,
    maker: Maker,
    store: _Store,
    stream: Callable[[Iterator[tuple[int, Any]]], Iterator[Decoded]],
    on_error: str,
    bar: Any,
) -> None:
    keys: dict[int, tuple[Key, Any]] = {}
    names: dict[int, str] = {}
    scheduled: set[Key] = set()

    def missing() -> Iterator[tuple[int, Any]]:
        for position, photo in enumerate([photos] if is_single(photos) else expand(photos)):
            key = key_of(photo, store.table.parent, position)
            store.order.append(key)
            if (said := given_tags(photo)) != NOTHING:
                store.given[key] = said
            if key in store.where:
                store.reused += 1
                bar.update(1)
            elif key in scheduled:
                bar.update(1)
            else:
                scheduled.add(key)
                keys[position], names[position] = (key, photo), describe(photo)
                yield position, photo

    def decoded_key(item: Decoded) -> tuple[Key, Any]:
        key, photo = keys.pop(item.position)
        actual = key_decoded(key, photo, store.table.parent, item.stamp)
        if actual != key:
            store.changed[key] = actual
            if key in store.given:
                store.given[actual] = store.given[key]
        return actual, photo

    waiting: list[Row] = []
    first = 0
    written = time.monotonic()
    failures: list[Decoded] = []
    try:
        for batch in batches(stream(missing()), maker.batch_size):
            good = split_failures(batch, failures, on_error)
            if good:
                pairs = [decoded_key(item) for item in good]
                first = first if waiting else good[0].position
                waiting += maker.rows([key for key, _ in pairs], good, [photo for _, photo in pairs])
            bar.update(len(batch))
            if waiting and time.monotonic() - written > _WRITE_EVERY:
                store.write(first, waiting)
                waiting, written = [], time.monotonic()
    finally:
        if waiting:
            store.write(first, waiting)
    store.skipped += [(names[item.position], str(item.error)) for item in failures]
    unread = {keys[item.position][0]: str(item.error) for item in failures}
    # a photo that is given twice is decoded once, and lacks two rows
    store.unread = [(position, unread[key]) for position, key in enumerate(store.order) if key in unread]


def _row(store: _Store, reader: RowReader, key: Key) -> pa.Table:
    row = reader.row(*store.where[key])
    given = store.given.get(key)
    if given is None and row.schema.names == store.schema.names:
        return row
    return completed(row, store.schema, given, store.table.parent, store.maker.pseudonyms)


def _write_table(store: _Store) -> None:
    """All rows in the photos' order, in row groups of fixed size, so that interruptions leave no trace."""
    reader = RowReader()
    order = [store.changed.get(key, key) for key in store.order]
    store.kept = [position for position, key in enumerate(order) if key in store.where]
    store.order = [order[position] for position in store.kept]
    keys = iter(store.order)
    try:
        with written_beside(store.table) as scratch:
            with pq.ParquetWriter(scratch, store.schema, compression="none") as writer:
                while group := list(itertools.islice(keys, ROW_GROUP)):
                    rows = [_row(store, reader, key) for key in group]
                    tables = pa.concat_tables([row.replace_schema_metadata(None) for row in rows])
                    writer.write_table(
                        tables.combine_chunks().cast(store.schema.remove_metadata()), row_group_size=ROW_GROUP
                    )
            seal_parquet(scratch)
            reader.close()
    except OSError as error:
        raise OutputError(
            f"{store.table} cannot be written ({error.strerror}); the finished parts are kept. "
            "Make room and run the same command again."
        ) from error
    finally:
        reader.close()
