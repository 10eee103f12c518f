"""An index on disk: opened as one consistent state, changed by one writer at a time.

A writer makes new files beside the old ones and commits by replacing ``manifest.json``; what the manifest
does not name does not exist, and the next writer sweeps it away. Readers take no lock: they see the state
that the manifest named when they opened it, and keep it, since files are never changed in place.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of, write_bytes
from retina_fm.errors import IndexDamagedError, OutputError
from retina_fm.indexes.manifest import FILE, Manifest, read_manifest, write_manifest
from retina_fm.indexes.parts import FOLDER, Part, open_vectors, read_rows, write_part
from retina_fm.indexes.rows import COLUMNS, Rows
from retina_fm.indexes.snapshot import Snapshot, columns_of
from retina_fm.models.whitening import Whitening

logger = logging.getLogger("retina_fm")

PART_ROWS = 250_000
SMALL_PART = 8192
MANY_SMALL = 16
LOCK = ".lock"


def open_snapshot(store: Path) -> tuple[Manifest, Snapshot]:
    """The state that the manifest names now.

    Raises:
        IndexNotFoundError: there is no index here.
        IndexDamagedError: files are cut or missing; the message lists them and what remains.
    """
    while True:
        manifest = read_manifest(store)
        try:
            return manifest, _load(store, manifest)
        except FileNotFoundError:  # a writer may have replaced the state since
            if read_manifest(store).generation == manifest.generation:
                raise damage(store, manifest) from None
        except IndexDamagedError:
            raise damage(store, manifest) from None


def damage(store: Path, manifest: Manifest) -> IndexDamagedError:
    """The error that tells which files are damaged and how much remains."""
    faults, rows = [], 0
    for part in manifest.parts:
        found = _fault(store, manifest, part)
        faults += [found] if found else []
        rows += 0 if found else part.rows
    for name in manifest.files:
        found = _fault(store, manifest, name)
        faults += [found] if found else []
    total = sum(part.rows for part in manifest.parts)
    return IndexDamagedError(
        f"The index {store} is damaged: {'; '.join(faults)}. {rows} of {total} rows lie in files that are "
        f"whole. 'retina-fm index --store {store} --rebuild' keeps every row that can be read; the photos of "
        "the others are encoded again when the index is next brought up to date."
    )


def read_checked(store: Path, manifest: Manifest, name: str) -> bytes:
    """A small file that the manifest names, if its hash is right.

    Raises:
        FileNotFoundError: it is gone.
        IndexDamagedError: it was changed.
    """
    path = store / name
    if sha256_of(path) != manifest.files[name]:
        raise IndexDamagedError(f"{path} was changed: its SHA-256 is another")
    return path.read_bytes()


def read_stored_whitening(store: Path, manifest: Manifest) -> Whitening | None:
    """The whitening that was copied into the index when it was made."""
    if manifest.whitening is None:
        return None
    with np.load(BytesIO(read_checked(store, manifest, manifest.whitening)), allow_pickle=False) as arrays:
        return Whitening(arrays["mean"], arrays["directions"], arrays["gains"])


@contextmanager
def writing(store: Path, wait: float = 0.0) -> Iterator[Writer]:
    """The only writer of an index, for the length of a block; the system frees the lock of a killed one.

    Args:
        store: folder of the index; made if need be.
        wait: seconds to wait for another writer.

    Raises:
        OutputError: another process writes, or the folder cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store / LOCK)
        lock.acquire(timeout=wait)
    except Timeout:
        raise OutputError(
            f"The index {store} is being changed by another process; wait for it, or pass wait=SECONDS "
            "(--wait)."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(
            f"The index {store} cannot be written ({error}); search works, changes do not."
        ) from None
    try:
        writer = Writer(store, read_manifest(store) if (store / FILE).exists() else Manifest())
        writer.sweep()
        yield writer
    finally:
        lock.release()


class Writer:
    """Gathers changes and commits them at once.

    Attributes:
        store: folder of the index.
        manifest: the last state that was committed, with the changes since.
    """

    def __init__(self, store: Path, manifest: Manifest) -> None:
        self.store = store
        self.manifest = manifest
        self._removed: NDArray[np.int64] | None = None

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        return self.manifest.generation > 0

    def append(self, rows: Rows) -> None:
        """Write rows as new parts; nobody sees them before the commit.

        Raises:
            OutputError: the disk is full or cannot be written; the old state stays.
        """
        for start in range(0, len(rows), PART_ROWS):
            some = rows.part(start, start + PART_ROWS)
            first = self.manifest.next_id
            self._add_part(first, some.table(first), [some.embeddings])
            self.manifest = self.manifest.with_changes(
                next_id=first + len(some), count=self.manifest.count + len(some)
            )

    def remove(self, ids: NDArray[np.int64], removed_before: NDArray[np.int64]) -> None:
        """Mark live rows as removed; their embeddings leave the disk with the next compaction."""
        base = removed_before if self._removed is None else self._removed
        self._removed = np.union1d(base, ids)
        self.manifest = self.manifest.with_changes(count=self.manifest.count - len(ids))

    def set_metadata(self, table: pa.Table) -> None:
        """Replace the metadata, a table with a column ``path``."""
        buffer = BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self._attach("metadata", f"metadata-{self._serial}.parquet", buffer.getvalue())

    def set_whitening(self, whitening: Whitening) -> None:
        """Keep a copy of the model's whitening."""
        buffer = BytesIO()
        np.savez(buffer, mean=whitening.mean, directions=whitening.directions, gains=whitening.gains)
        self._attach("whitening", f"whitening-{self._serial}.npz", buffer.getvalue())

    def replace_parts(self, parts: tuple[Part, ...], removed: NDArray[np.int64]) -> None:
        """Let other parts take the place of all."""
        self._removed = removed
        count = sum(part.rows for part in parts) - len(removed)
        self.manifest = self.manifest.with_changes(parts=parts, count=count)

    def commit(self) -> None:
        """Make the changes the state of the index.

        Raises:
            OutputError: the disk is full or cannot be written; the old state stays.
        """
        if self._removed is not None:
            if len(self._removed):
                buffer = BytesIO()
                np.save(buffer, self._removed)
                self._attach("removed", f"removed-{self._serial}.npy", buffer.getvalue())
            else:
                self._detach("removed")
        self.manifest = self.manifest.with_changes(generation=self.manifest.generation + 1)
        with reporting(self.store):
            write_manifest(self.store, self.manifest)
        self._removed = None
        self.sweep()

    def new_part(
        self, first: int, rows: pa.Table, blocks: Iterator[NDArray[np.floating]] | list[NDArray[np.floating]]
    ) -> Part:
        """Write a part without listing it."""
        name = f"part-{first:012d}-{self._serial}"
        with reporting(self.store):
            return write_part(self.store, name, rows, blocks, self.manifest.dimension, self.manifest.dtype)

    def sweep(self) -> None:
        """Delete what no manifest names: leftovers of a kill, and what the last commit replaced."""
        named = {path.name for part in self.manifest.parts for path in part.files(self.store)}
        named |= set(self.manifest.files)
        for pattern in (
            f"{FOLDER}/*",
            f"{FOLDER}/.*.part",
            ".*.part",
            "removed-*",
            "metadata-*",
            "whitening-*",
        ):
            for path in self.store.glob(pattern):
                if path.name not in named and path.is_file():
                    with contextlib.suppress(OSError):  # some systems keep files that a reader has open
                        path.unlink()

    @property
    def _serial(self) -> int:
        return self.manifest.generation + 1

    def _add_part(self, first: int, rows: pa.Table, blocks: list[NDArray[np.floating]]) -> None:
        part = self.new_part(first, rows, blocks)
        self.manifest = self.manifest.with_changes(parts=(*self.manifest.parts, part))

    def _attach(self, kind: str, name: str, data: bytes) -> None:
        with reporting(self.store):
            write_bytes(self.store / name, data)
        self._detach(kind)
        files = {**self.manifest.files, name: sha256_of(self.store / name)}
        self.manifest = self.manifest.with_changes(files=files, **{kind: name})

    def _detach(self, kind: str) -> None:
        old = getattr(self.manifest, kind)
        files = {name: digest for name, digest in self.manifest.files.items() if name != old}
        self.manifest = self.manifest.with_changes(files=files, **{kind: None})


@contextmanager
def reporting(store: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what is kept."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The index {store} cannot be written ({error.strerror or error}); its last state is kept. "
            "Make room and run the same again."
        ) from error


def _load(store: Path, manifest: Manifest) -> Snapshot:
    chunks = [open_vectors(store, part, manifest.dimension) for part in manifest.parts]
    columns = [read_rows(store, part, ["id"]).column("id") for part in manifest.parts]
    ids = np.concatenate([column.to_numpy() for column in columns] or [np.empty(0, np.int64)])
    live = np.ones(len(ids), np.bool_)
    if manifest.removed:
        removed = np.load(BytesIO(read_checked(store, manifest, manifest.removed)), allow_pickle=False)
        live[np.isin(ids, removed)] = False
    metadata = None
    if manifest.metadata:
        metadata = pq.read_table(BytesIO(read_checked(store, manifest, manifest.metadata)))

    def rows(names: list[str] | None) -> pa.Table:
        if not manifest.parts:
            return COLUMNS.empty_table()
        return pa.concat_tables([read_rows(store, part, names) for part in manifest.parts])

    # rows are read late where there are many; a small index reads them now and needs its files no more
    if len(ids) <= PART_ROWS:
        return Snapshot(ids, live, chunks, columns_of(rows(None)), metadata, manifest.dimension)
    return Snapshot(ids, live, chunks, rows, metadata, manifest.dimension)


def _fault(store: Path, manifest: Manifest, thing: Part | str) -> str | None:
    try:
        if isinstance(thing, str):
            read_checked(store, manifest, thing)
        else:
            open_vectors(store, thing, manifest.dimension)
            read_rows(store, thing, ["id"])
    except (OSError, IndexDamagedError) as error:
        return _short(error)
    return None


def _short(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be read ({error.strerror})"
    return str(error)
