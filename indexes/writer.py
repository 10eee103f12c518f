"""Changes to an index: vectors are appended and flushed first, then one transaction makes them its state."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, OutputError
from retina_fm.indexes import database
from retina_fm.indexes.columns import Column
from retina_fm.indexes.state import (
    EMBEDDING,
    SIGNATURE,
    Manifest,
    State,
    read_settings,
    read_state,
    state_name,
    stored_checksums,
    write_settings,
)
from retina_fm.indexes.vectors import Vectors

LOCK = ".lock"
CACHE = "index.faiss"
SCRATCH = "index.faiss.new"
DEAD_SHARE = 0.25
_WRITTEN = 16_384
_MOST_COLUMNS = 1900


@contextmanager
def reporting(folder: Path | None) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what is kept."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise unwritten(folder, error) from error


def unwritten(folder: Path | None, error: Exception) -> OutputError:
    """The error of a full or read-only disk."""
    return OutputError(
        f"The index {folder} cannot be written ({getattr(error, 'strerror', None) or error}); its last "
        "state is kept. Make room and run the same again."
    )


def locked(folder: Path, wait: float) -> FileLock:
    """The lock that one writer holds, made with the folder if need be; to be released by the caller."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / LOCK).is_symlink():
            raise OutputError(f"{folder / LOCK} is a link; remove it, an index never writes through one.")
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=wait)
    except Timeout:
        raise OutputError(
            f"The index {folder} is being changed by another process; wait for it, or pass wait=SECONDS "
            "(--wait)."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(
            f"The index {folder} cannot be written ({error}); search works, changes do not."
        ) from None
    return lock


class Writer:
    """Gathers changes in a transaction and commits them at once.

    Attributes:
        folder: of the index, or None in memory.
        state: what was there when it began, or None.
        manifest: of the last commit, with the changes since.
    """

    def __init__(
        self, db: sqlite3.Connection, folder: Path | None, state: State | None, name: str = database.FILE
    ) -> None:
        self.db = db
        self.folder = folder
        self.state = state
        self.upgraded = False
        self._path = None if folder is None else folder / name
        self.manifest, self.whitening, self.basis = Manifest(), None, None
        if state is not None:
            self.manifest, self.whitening, self.basis = state.manifest, state.whitening, state.basis
        if not db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'settings'").fetchone()[0]:
            self.begin()
            for statement in database.SCHEMA:
                db.execute(statement)
            write_settings(db, Manifest(), None)
            theirs = folder is not None and any(os.path.lexists(folder / name) for name in (CACHE, SCRATCH))
            if not theirs:
                self.name_cache()
        self._embeddings = self._column(EMBEDDING, None if state is None else state.vectors)
        self._signatures = self._column(SIGNATURE, None if state is None else state.signatures)

    @property
    def upgrades(self) -> bool:
        """Whether the state lies in files of the format before this one."""
        there = self.state is not None and self.folder is not None
        return there and not read_settings(self.db)[0].generation

    def begin(self) -> None:
        """Open a transaction, if none is."""
        database.begin(self.db)

    def append(self, vectors: NDArray[np.floating], signatures: NDArray[np.floating] | None = None) -> int:
        """Add embeddings at the end of their file, and signatures at that of theirs where there is one.

        Args:
            vectors: embeddings ``(N, D)``.
            signatures: ``(N, K)``; zeros, which are like nothing, without them.

        Returns:
            The place of the first one.
        """
        self.begin()
        if not self._embeddings.file:
            self._new_files(vectors.shape[1])
        first = self._embeddings.total
        self._append(self._embeddings, vectors)
        if self.basis is not None:
            if signatures is None:
                signatures = np.zeros((len(vectors), self.basis.length), np.float32)
            self._append(self._signatures, signatures)
        return first

    def _append(self, column: Column, vectors: NDArray[np.floating]) -> None:
        data = np.ascontiguousarray(vectors, dtype=np.dtype(self.manifest.dtype).newbyteorder("<"))
        place = column.total
        with reporting(self.folder):
            crcs = column.append(data)
        self.begin()
        values = (column.file, place, len(data), crcs.astype("<u4").tobytes())
        self.db.execute("INSERT INTO checksum VALUES (?, ?, ?, ?)", values)

    def add(self, rows: Iterable[database.Row]) -> None:
        """Insert rows whose vectors were appended, without metadata."""
        self.begin()
        rows = list(rows)
        if any(isinstance(row[1], str) and row[1].isdigit() for row in rows):
            rows = [(row[0], state_name(row[1]), *row[2:]) for row in rows]
        database.add_rows(self.db, rows)

    def add_numbers(self, place: int, number: int, count: int) -> None:
        """:meth:`add` of embeddings that are called by their numbers."""
        self.begin()
        database.add_numbers(self.db, place, number, count)

    def change(self, pairs: Iterable[tuple[int, database.Row]]) -> None:
        """Give pictures another place, path, size or time; what is known about them stays.

        Args:
            pairs: place that a picture had, and its row now.
        """
        for old, (place, path, *rest) in pairs:
            row = (place, state_name(path), *rest)
            values = self._row(old)[6:]
            if place != old:
                self.remove([old])
            self._put([(row, values)])

    def remove(self, places: Iterable[int]) -> None:
        """Let pictures be found no more, and forget what is known about them."""
        keys = [(int(place),) for place in places]
        if keys:
            self.begin()
            self.db.executemany("INSERT OR IGNORE INTO removed VALUES (?)", keys)
            self.db.executemany("DELETE FROM picture WHERE _place = ?", keys)

    def describe(self, kinds: Mapping[str, str], rows: Mapping[int, Sequence[Any]]) -> None:
        """Write metadata of some pictures; columns that are not given stay as they are.

        Args:
            kinds: type of each column that is given, empty where it has no value.
            rows: values in the order of these columns, by place.

        Raises:
            ConfigError: a column holds values of another type, or has a name that cannot be.
        """
        if not kinds or not rows:
            return
        self.begin()
        kinds = {name: kind or self.kinds.get(name, "TEXT") for name, kind in kinds.items()}
        _check(self.kinds, kinds)
        for name, kind in kinds.items():
            if name not in self.kinds:
                self.db.execute(f"ALTER TABLE picture ADD COLUMN {database.quoted(name)} {kind}")
        given = list(kinds)
        order = [(given.index(name) if name in kinds else None, kind) for name, kind in self.kinds.items()]

        def written() -> Iterator[tuple[Any, Sequence[Any]]]:
            for place, row in rows.items():
                held = self._row(place)
                values = zip(order, held[6:], strict=True)
                yield held[:5], [old if at is None else _stored(row[at], kind) for (at, kind), old in values]

        self._put(written())

    def described(self, place: int) -> dict[str, Any]:
        """The metadata of a picture as it is held, by column."""
        return dict(zip(self.kinds, self._row(place)[6:], strict=True))

    @property
    def kinds(self) -> dict[str, str]:
        """Names and types of the metadata's columns."""
        return database.metadata_columns(self.db)

    def index_column(self, column: str) -> None:
        """Let filters on a metadata column be answered by an index in the database."""
        self.begin()
        name = database.quoted(f"pictures by {column}")
        self.db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON picture ({database.quoted(column)})")

    def commit(self, publish: bool = True) -> None:
        """Make the changes the state of the index.

        Args:
            publish: whether what can be found changed; False for work that is only kept.

        Raises:
            OSError, sqlite3.Error: the disk is full or cannot be written; the old state stays.
        """
        self.begin()
        with reporting(self.folder):
            for column in self.columns:
                column.flush()
            if publish:
                count = self.db.execute("SELECT count(*) FROM picture").fetchone()[0]
                generation = self.manifest.generation + 1
                self.manifest = replace(self.manifest, count=count, generation=generation)
                write_settings(self.db, self.manifest, self.whitening, self.basis)
            database.commit(self.db, self._path)

    def committed(self) -> State:
        """The state after a commit."""
        if self.folder is None:
            vectors = self._embeddings.in_memory(self.manifest.dimension)
            signatures = self._signatures.in_memory(self.basis.length) if self.basis is not None else None
            self.state = State(self.db, vectors, None, signatures)
        else:
            self.state = read_state(self.folder)
            assert self.state is not None  # it has just been committed
            self.state.vectors.trusted(self._embeddings.appended)
            if self.state.signatures is not None:
                self.state.signatures.trusted(self._signatures.appended)
        return self.state

    def rewrite(self, state: State, rename: Callable[[str], str] | None = None) -> None:
        """Put a new vectors file with the live rows of a state in the place of everything.

        Args:
            state: of this index, or of another.
            rename: from a stored path of that state to one of this index.
        """
        old = self.files
        self._new_files(state.dimension)
        for name in old:
            self.db.execute("DELETE FROM checksum WHERE file = ?", (name,))
            self.name_file(name, "old")
        self._copy_rows(state, rename, _WRITTEN)

    def _copy_rows(self, state: State, rename: Callable[[str], str] | None, block: int) -> None:
        """Put the live rows of a state, with what is known of them, in the place of all rows.

        Args:
            state: of this index, or of another.
            rename: from a stored path of that state to one of this index.
            block: rows whose vectors are in memory at once.
        """
        places, kinds = state.live_positions, database.metadata_columns(state.db)
        rows = state.query("SELECT * FROM picture ORDER BY _place")
        for table in ("picture", "removed"):
            self.db.execute(f"DELETE FROM {table}")
        for start in range(0, len(places), block):
            some = places[start : start + block]
            signatures = state.signatures.take(some) if state.signatures is not None else None
            self.append(state.vectors.take(some), signatures)
        paths = [rename(str(row[1])) if rename else row[1] for row in rows]
        self.add((place, path, *row[2:5]) for place, (path, row) in enumerate(zip(paths, rows, strict=True)))
        self.describe(kinds, {place: row[6:] for place, row in enumerate(rows)})

    def forget_signatures(self) -> None:
        """Hold none any more; with the commit their file goes, too."""
        self.begin()
        self.manifest, self.basis = replace(self.manifest, signature=None), None
        self.db.execute("DELETE FROM settings WHERE name = 'basis'")
        self.db.execute("DELETE FROM space WHERE name = ?", (SIGNATURE,))
        if self._signatures.file:
            self.db.execute("DELETE FROM checksum WHERE file = ?", (self._signatures.file,))
            self.name_file(self._signatures.file, "old")

    def tidy(self) -> None:
        """Remove files that an earlier commit replaced or a killed writer began; only what is named here."""
        if self.folder is None:
            return
        found = self.db.execute("SELECT name, state FROM file WHERE state != 'used'").fetchall()
        gone = [name for name, state in found if database.remove_file(self.folder, name) and state != "spare"]
        if any(name.startswith("vectors/") for name in gone):  # the folder of the format before this one
            with contextlib.suppress(OSError):
                (self.folder / "vectors").rmdir()
        if gone:
            self.begin()
            self.db.executemany("DELETE FROM file WHERE name = ?", [(name,) for name in gone])
            self.commit(publish=False)

    def name_file(self, name: str, state: str) -> None:
        """Note a file of the index, or that it is to be removed."""
        self.begin()
        self.db.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", (name, state))

    def name_cache(self) -> None:
        """Note that ``index.faiss`` is one of the index's files."""
        self.name_file(CACHE, "used")
        self.name_file(SCRATCH, "spare")

    def names(self, name: str) -> bool:
        """Whether a file is one of the index."""
        return bool(self.db.execute("SELECT 1 FROM file WHERE name = ?", (name,)).fetchone())

    @property
    def columns(self) -> list[Column]:
        """Of vectors: embeddings, and signatures where the index holds them."""
        return [self._embeddings, *([self._signatures] if self.basis is not None else [])]

    @property
    def files(self) -> list[str]:
        """Of its columns."""
        return [column.file for column in (self._embeddings, self._signatures) if column.file]

    def _column(self, space: str, there: Vectors | None) -> Column:
        found = self.db.execute("SELECT file FROM space WHERE name = ?", (space,)).fetchone()
        file = str(found[0]) if found else ""
        chunks = list(there.chunks) if there is not None and self.folder is None else []
        return Column(space, self.folder, file, stored_checksums(self.db, file)[1], chunks)

    def close(self) -> None:
        """Forget what was not committed."""
        for column in (self._embeddings, self._signatures):
            column.close()
        if self.db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")

    def _new_files(self, dimension: int) -> None:
        """Begin an empty file a column; its name is committed before it is there, to be known as ours."""
        self.manifest = replace(self.manifest, dimension=dimension)
        widths = [dimension, *([self.basis.length] if self.basis is not None else [])]
        names = []
        for _ in self.columns:
            names.append(self._free_name())
            self.name_file(names[-1], "new")
        if self.folder is not None:
            self.commit(publish=False)
        for column, name, width in zip(self.columns, names, widths, strict=True):
            with reporting(self.folder):
                column.begin(name)
            self.name_file(name, "used")
            row = (column.name, name, width, self.manifest.dtype)
            self.db.execute("INSERT OR REPLACE INTO space VALUES (?, ?, ?, ?)", row)

    def _free_name(self) -> str:
        suffix = "f16" if self.manifest.dtype == "float16" else "f32"
        number = 0
        while self.names(name := f"vectors-{number}.{suffix}") or (
            self.folder is not None and os.path.lexists(self.folder / name)
        ):
            number += 1
        return name

    def _row(self, place: int) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self.db.execute("SELECT * FROM picture WHERE _place = ?", (place,)).fetchone()
        return row

    def _put(self, rows: Iterable[tuple[Any, Sequence[Any]]]) -> None:
        self.begin()
        names = list(self.kinds)
        marks = ", ".join("?" * (6 + len(names)))
        whole = [(*row, database.row_crc(names, row, values), *values) for row, values in rows]
        self.db.executemany(f"INSERT OR REPLACE INTO picture VALUES ({marks})", whole)


def _stored(value: Any, kind: str) -> Any:
    """A value as SQLite will give it back from a column of that type, for the row's checksum."""
    if value is None or kind == "TEXT":
        return value
    if kind == "REAL":
        return float(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**63
    return int(value) if whole or isinstance(value, bool) else value


def _check(have: Mapping[str, str], given: Mapping[str, str]) -> None:
    seen = {name.lower(): name for name in have}
    for name, kind in given.items():
        if name.lower() in database.OWN or "\x00" in name:
            raise ConfigError(f"The metadata column {name!r} has a name that an index keeps; rename it.")
        first = seen.setdefault(name.lower(), name)
        if first != name:
            raise ConfigError(
                f"The metadata columns {first!r} and {name!r} differ in case alone; rename one."
            )
        if have.get(name, kind) != kind and {have[name], kind} != {"INTEGER", "REAL"}:
            raise ConfigError(
                f"The metadata column {name!r} holds {have[name]}, and {kind} was given; convert it, or take "
                "another name."
            )
    if len(seen) > _MOST_COLUMNS:
        raise ConfigError(f"The metadata has {len(seen)} columns; an index holds at most {_MOST_COLUMNS}.")
