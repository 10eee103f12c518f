"""An index in LanceDB: its state, its only writer, and a check of every row.

The state is that of an index on disk: rows and settings in a database in memory, which answers filters, and
vectors that are read when they are needed. So search, filters and hits are the same code for both.
"""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.errors import IndexDamagedError, IndexNotFoundError, OutputError
from retina_fm.indexes import database, lance_rows, lance_tables
from retina_fm.indexes.lance_places import COMMITS, LancePlace, reading, writing_to
from retina_fm.indexes.lance_tables import MODEL, PICTURES, VECTORS, Commit
from retina_fm.indexes.lance_vectors import PLACE, LanceVectors, crc_column, vector_array
from retina_fm.indexes.space import Space
from retina_fm.indexes.state import EMBEDDING, SIGNATURE, Manifest, ModelIdentity, State, write_settings
from retina_fm.indexes.vectors import Vectors, checksums
from retina_fm.indexes.writer import Writer, locked
from retina_fm.models.whitening import Whitening
from retina_fm.signatures import SignatureBasis

POINT = "point"
_WHITENING, _BASIS = "whitening", "basis"
_BUFFERED = 64 << 20
_MOST_FRAGMENTS = 64
_FOREVER = timedelta(days=36_500)
_INDEX_NAME = "pictures by "


class LanceState(State):
    """One version of an index.

    Attributes:
        place: of the index.
        commit: what it consists of.
        table: of the vectors.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        place: LancePlace,
        commit: Commit,
        table: Any,
    ) -> None:
        self.place, self.commit, self.table = place, commit, table
        manifest, total = commit.manifest, commit.total
        vectors, signatures = Vectors([], 0, str(place)), None
        if table is not None:
            vectors = LanceVectors(table, EMBEDDING, total, manifest["dimension"], place)
            if manifest["signature"] is not None:
                width = table.schema.field(SIGNATURE).type.list_size
                signatures = LanceVectors(table, SIGNATURE, total, width, place)
        super().__init__(db, vectors, place.folder, signatures)


def open_state(place: LancePlace) -> LanceState:
    """The state of an index now.

    Raises:
        IndexNotFoundError: there is no index.
        IndexDamagedError: tables are changed or missing.
        IndexMismatchError: a newer release wrote it.
        MissingDependencyError: LanceDB is not installed.
    """
    tables = lance_tables.connect(place)
    commit = lance_tables.read_commit(place, tables)
    while True:
        try:
            with reading(place):
                return _opened(place, tables, commit)
        except IndexDamagedError:  # noqa: PERF203  a try a version
            now = lance_tables.read_commit(place, tables)
            if now == commit:
                raise
            commit = now  # it was compacted between the two readings


def _opened(place: LancePlace, tables: Any, commit: Commit) -> LanceState:
    versions, settings = commit.versions, dict(commit.manifest)
    if settings["model"] is not None:
        settings["model"] = ModelIdentity(**settings["model"])
    whitening = basis = None
    if MODEL in versions:
        table = lance_tables.open_table(tables, MODEL, versions[MODEL])
        known = {row["name"]: row["value"] for row in table.search().limit(2).to_arrow().to_pylist()}
        if _WHITENING in known:
            with np.load(io.BytesIO(known[_WHITENING]), allow_pickle=False) as arrays:
                whitening = Whitening(arrays["mean"], arrays["directions"], arrays["gains"])
        if _BASIS in known:
            basis = SignatureBasis.from_bytes(known[_BASIS], str(place))
    db = database.connect_memory()
    db.execute("BEGIN")
    for statement in database.SCHEMA:
        db.execute(statement)
    write_settings(db, Manifest(**settings), whitening, basis)
    if PICTURES in versions:
        table = lance_tables.open_table(tables, PICTURES, versions[PICTURES])
        lance_rows.read_rows(table, db, commit.columns, commit.total)
    for column in commit.filters:
        _index_column(db, column)
    db.execute("COMMIT")
    table = lance_tables.open_table(tables, VECTORS, versions[VECTORS]) if VECTORS in versions else None
    return LanceState(db, place, commit, table)


@contextmanager
def writing(place: LancePlace, wait: float = 0.0, memory: State | None = None) -> Iterator[LanceWriter]:
    """The only writer of an index, for the length of a block; what it did not commit is forgotten.

    A folder has a lock. An object store has none: there, a commit is refused where another came between.

    Args:
        place: of the index.
        wait: seconds to wait for another writer.
        memory: a state of it that is known, and is built upon where it is the last one.

    Raises:
        OutputError: another process writes, or the place cannot be written.
    """
    if not place.remote and (place.folder / database.FILE).exists():
        raise OutputError(
            f"{place.folder} holds an index of another kind ({database.FILE}); name another place."
        )
    lock = None if place.remote else locked(place.folder, wait)
    try:
        with writing_to(place):
            tables = lance_tables.connect(place)
        try:
            commit: Commit | None = lance_tables.read_commit(place, tables)
        except IndexNotFoundError:
            commit = None
        state: LanceState | None = None
        if isinstance(memory, LanceState) and memory.place == place and memory.commit == commit:
            state = memory
        elif commit is not None:
            state = open_state(place)
        with writing_to(place):
            lance_tables.begin(tables)
        writer = LanceWriter(place, tables, state)
        try:
            yield writer
        finally:
            writer.close()
    finally:
        if lock is not None:
            lock.release()


class LanceWriter(Writer):
    """Gathers changes of rows in a database in memory, streams vectors to LanceDB, and commits them at once.

    Attributes:
        place: of the index.
    """

    def __init__(self, place: LancePlace, tables: Any, state: LanceState | None) -> None:
        self.place = place
        self._tables = tables
        self._open: dict[str, Any] = {}
        self._commit = state.commit if state is not None else Commit(0, 0, {}, {})
        self._total = self._commit.total
        self._afresh = VECTORS not in self._commit.versions
        self._purge = False
        self._waiting: list[pa.RecordBatch] = []
        super().__init__(state.db if state is not None else database.connect_memory(), None, state)
        for statement in lance_rows.CHANGED:
            self.db.execute(statement)
        self._search = self._commit.search

    def append(self, vectors: NDArray[np.floating], signatures: NDArray[np.floating] | None = None) -> int:
        """See :meth:`Writer.append`."""
        self.begin()
        self.manifest = replace(self.manifest, dimension=vectors.shape[1])
        data = {EMBEDDING: np.ascontiguousarray(vectors, dtype=self.manifest.dtype)}
        if self.basis is not None:
            empty = np.zeros((len(vectors), self.basis.length), np.float32)
            data[SIGNATURE] = np.asarray(empty if signatures is None else signatures, self.manifest.dtype)
        if (space := self._space).whitening is not None:
            data[POINT] = space.points(data[EMBEDDING])
        first = self._total
        columns: dict[str, Any] = {PLACE: np.arange(first, first + len(vectors))}
        for name, matrix in data.items():
            if name != POINT:  # it can be made again
                columns[crc_column(name)] = checksums(matrix)
            columns[name] = vector_array(matrix)
        self._waiting += pa.table(columns).to_batches()
        self._total += len(vectors)
        if sum(batch.nbytes for batch in self._waiting) >= _BUFFERED:
            self._flush()
        return first

    def commit(self, publish: bool = True) -> None:
        """See :meth:`Writer.commit`."""
        self.begin()
        count = self.db.execute("SELECT count(*) FROM picture").fetchone()[0]
        generation = self.manifest.generation + (1 if publish else 0)
        self.manifest = replace(self.manifest, count=count, generation=generation)
        write_settings(self.db, self.manifest, self.whitening, self.basis)
        with writing_to(self.place):
            self._flush()
            columns = self._write_rows()
            self._write_model()
            for table in self._open.values():
                if self._purge or table.stats()["fragment_stats"]["num_fragments"] > _MOST_FRAGMENTS:
                    table.optimize(cleanup_older_than=_FOREVER)
            self._publish(columns)
        database.commit(self.db, None)

    def committed(self) -> LanceState:
        """The state after a commit."""
        version = self._commit.versions.get(VECTORS)
        table = None if version is None else lance_tables.open_table(self._tables, VECTORS, version)
        state = LanceState(self.db, self.place, self._commit, table)
        self.state = state
        return state

    def rewrite(self, state: State, rename: Callable[[str], str] | None = None) -> None:
        """See :meth:`Writer.rewrite`; the versions before are deleted by :meth:`tidy`."""
        self._begin_afresh()
        self._copy_rows(state, rename, max(1, _BUFFERED // (8 * max(1, state.dimension))))

    def forget_signatures(self) -> None:
        """Hold none any more; everything is rewritten, so that no version keeps them."""
        self.begin()
        self.manifest, self.basis = replace(self.manifest, signature=None), None
        self.db.execute("DELETE FROM settings WHERE name = 'basis'")
        if self.state is not None and self.state.total:
            self.rewrite(self.state)
        with writing_to(self.place):
            self._write_model(again=True)

    def tidy(self) -> None:
        """Delete the versions before the last commit where it took something away for good."""
        if self._purge:
            self._delete_versions()
            self._purge = False

    def build_search(self, column: str, config: Any) -> Any:
        """Make LanceDB's own index of a column, not yet part of the index.

        Returns:
            The table with it.
        """
        with writing_to(self.place):
            table = self._table(VECTORS)
            table.create_index(column, config=config, replace=True)
        return table

    def commit_search(self, search: dict[str, Any]) -> None:
        """Make LanceDB's own index part of this one."""
        self._search = search
        self.begin()
        self.commit(publish=False)

    def close(self) -> None:
        """Forget what was not committed."""
        self._waiting = []
        super().close()

    @property
    def _space(self) -> Space:
        whitened = self.manifest.whiten and self.manifest.metric == "cosine"
        return Space(self.manifest.metric, self.whitening if whitened else None)

    def _begin_afresh(self) -> None:
        self.begin()
        self._waiting, self._total, self._search = [], 0, None
        self._afresh = self._purge = True

    def _table(self, name: str) -> Any:
        """A table as the last commit named it; what a killed writer added is taken back."""
        if name not in self._open:
            table, version = self._tables.open_table(name), self._commit.versions[name]
            if table.version != version:
                table.checkout(version)
                table.restore()
            self._open[name] = table
        return self._open[name]

    def _made(self, name: str, schema: pa.Schema) -> Any:
        """A table to be filled anew: the index's, one that a killed writer left, or a new one."""
        if name not in self._open:
            try:
                self._open[name] = self._tables.open_table(name)
            except (ValueError, FileNotFoundError):
                self._open[name] = self._tables.create_table(name, schema=schema)
        return self._open[name]

    def _flush(self) -> None:
        """Waiting vectors into their table."""
        if not self._waiting:
            return
        data = pa.Table.from_batches(self._waiting)
        with writing_to(self.place):
            if self._afresh:
                self._made(VECTORS, data.schema).add(data, mode="overwrite")
            else:
                self._table(VECTORS).add(data)
        self._afresh, self._waiting = False, []

    def _write_rows(self) -> list[tuple[str, str, str]]:
        new = PICTURES not in self._commit.versions
        columns = lance_rows.columns_of(self.db)
        table = self._made(PICTURES, lance_rows.schema_of(self.db, columns)) if new else self._table(PICTURES)
        lance_rows.write_rows(table, self.db, None if new or self._purge else self._commit.columns)
        self.db.execute("DELETE FROM changed")
        return columns

    def _write_model(self, again: bool = False) -> None:
        """Whitening and basis, with the first commit."""
        known: dict[str, bytes] = {}
        if self.whitening is not None:
            buffer = io.BytesIO()
            whitening = self.whitening
            np.savez(buffer, mean=whitening.mean, directions=whitening.directions, gains=whitening.gains)
            known[_WHITENING] = buffer.getvalue()
        if self.basis is not None and self.manifest.signature is not None:
            known[_BASIS] = self.basis.to_bytes()
        schema = pa.schema([("name", pa.string()), ("value", pa.binary())])
        there = MODEL in self._commit.versions
        if (there or MODEL in self._open or not known) and not (again and there):
            return
        rows = pa.table({"name": list(known), "value": list(known.values())}, schema=schema)
        self._made(MODEL, schema).add(rows, mode="overwrite")

    def _publish(self, columns: list[tuple[str, str, str]]) -> None:
        """Name the versions of all tables, in one step."""
        versions = {**self._commit.versions, **{name: table.version for name, table in self._open.items()}}
        try:
            last = lance_tables.read_commit(self.place, self._tables).number
        except IndexNotFoundError:
            last = 0
        if last != self._commit.number:
            raise OutputError(f"The index {self.place} was changed by another writer; open it and try again.")
        self._commit = Commit(
            number=last + 1, total=self._total, manifest=json.loads(json.dumps(asdict(self.manifest))),
            versions=versions, columns=columns, filters=_indexed(self.db), search=self._search,
        )  # fmt: skip
        lance_tables.write_commit(self._tables, self._commit)

    def _delete_versions(self) -> None:
        """Delete what earlier versions alone hold.

        A tag on the version that the index consists of makes LanceDB refuse rather than delete that one.
        """
        with writing_to(self.place), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # readers of old versions fail, as compact() says
            for name, version in self._commit.versions.items():
                table = self._tables.open_table(name)
                with contextlib.suppress(RuntimeError, ValueError):
                    table.tags.delete("named")
                table.tags.create("named", version)
                table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
                table.tags.delete("named")
            commits = self._tables.open_table(COMMITS)
            commits.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def verify(place: LancePlace) -> list[str]:
    """Read every row of an index; what is wrong, in words, empty where nothing is.

    Raises:
        IndexNotFoundError: there is no index.
    """
    try:
        state = open_state(place)
        faults = []
        for vectors in (state.vectors, state.signatures):
            bad = 0 if vectors is None else int((~vectors.whole()).sum())
            if vectors is not None and bad:
                faults.append(f"{vectors.name}: {bad} of {state.total} rows were changed")
    except IndexDamagedError as error:
        return [str(error)]
    rows = state.rows()
    if len(rows) != len(state) or [row[0] for row in rows] != state.live_positions.tolist():
        faults.append(f"{place} holds {len(rows)} rows, its settings count {len(state)}")
    if len({str(row[1]) for row in rows}) < len(rows):
        faults.append(f"{place}: paths occur twice")
    return faults


def _index_column(db: sqlite3.Connection, column: str) -> None:
    name = database.quoted(_INDEX_NAME + column)
    db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON picture ({database.quoted(column)})")


def _indexed(db: sqlite3.Connection) -> list[str]:
    """Columns whose filters an index of the database answers."""
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
    return [name[len(_INDEX_NAME) :] for (name,) in found if name.startswith(_INDEX_NAME)]
