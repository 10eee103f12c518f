"""Saving what can be saved of a damaged index."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retina_fm._io.files import sync_folder
from retina_fm.errors import IndexDamagedError, OutputError
from retina_fm.indexes import cache, database
from retina_fm.indexes.image_index import ImageIndex
from retina_fm.indexes.state import (
    EMBEDDING,
    SIGNATURE,
    State,
    empty_state,
    read_basis,
    read_settings,
    stored_checksums,
)
from retina_fm.indexes.store import open_state, writing
from retina_fm.indexes.updating import prepared, refresh_cache
from retina_fm.indexes.vectors import Vectors
from retina_fm.indexes.writer import CACHE, Writer, locked, reporting

_NEW = "index.db.new"


@dataclass(frozen=True)
class RepairReport:
    """What a rebuild came to.

    Attributes:
        rows: in the index now.
        lost: rows whose embedding, path or metadata could not be read; photos among them are encoded again
            when the index is next brought up to date.
        dropped: what beside the rows could not be used.
        cache_made: whether ``index.faiss`` was made again.
    """

    rows: int
    lost: int
    dropped: tuple[str, ...]
    cache_made: bool


def rebuild(folder: Path, wait: float = 0.0) -> RepairReport:
    """Make an index whole again: keep every row that can be read, and make ``index.faiss`` anew.

    Raises:
        IndexNotFoundError: there is no index.
        IndexDamagedError: not even its settings can be read.
        OutputError: another process writes, or the disk is full.
    """
    lost, dropped = 0, list[str]()
    if (folder / database.FILE).exists():
        lock = locked(folder, wait)
        try:
            state, lost, dropped = _salvaged(folder)
            if lost or dropped:
                _replace(folder, state)
        finally:
            lock.release()
    else:
        open_state(folder)  # an index of the format before this one is whole or cannot be mended
    with writing(folder, wait) as writer:
        assert writer.state is not None
        index = ImageIndex(writer.state, place=folder)
        prepared(index, writer)
        made = refresh_cache(index, writer, force=True)
        return RepairReport(len(index), lost, tuple(dropped), made)


def _replace(folder: Path, state: State) -> None:
    """Write an index anew from a state, and only then let it take the place of the damaged one."""
    new = folder / _NEW
    with reporting(folder):
        if new.is_symlink() or (new.exists() and not database.is_ours(new.read_bytes()[:100])):
            raise OutputError(f"{new} is in the way and none of an index; move it elsewhere.")
        new.unlink(missing_ok=True)
        with contextlib.closing(database.connect_file(folder, _NEW)) as db:
            writer = Writer(db, folder, None, _NEW)
            writer.manifest, writer.whitening, writer.basis = state.manifest, state.whitening, state.basis
            writer.rewrite(state)
            for vectors in (state.vectors, state.signatures):
                if vectors is not None and (old := Path(vectors.name).name) not in writer.files:
                    writer.name_file(old, "old")
            if cache.is_ours(folder / CACHE):
                writer.name_cache()
            writer.commit()
            writer.close()
        (folder / database.JOURNAL).unlink(missing_ok=True)  # of the damaged file
        new.replace(folder / database.FILE)
        sync_folder(folder)


def _salvaged(folder: Path) -> tuple[State, int, list[str]]:
    """A state of the rows that are as they were written, how many are lost, and what else is."""
    path = folder / database.FILE
    dropped: list[str] = []
    try:
        db = database.read(folder)
    except IndexDamagedError:
        dropped.append(f"{path.name} was changed")
        db = database.in_memory(path.read_bytes())
        db.text_factory = lambda data: data.decode(errors="surrogateescape")
    try:
        assert db is not None
        manifest, whitening = read_settings(db, checked=bool(dropped))
        basis = read_basis(db) if manifest.signature is not None else None
        files = dict(db.execute("SELECT name, file FROM space"))
        crcs = {space: stored_checksums(db, file)[0] for space, file in files.items()}
        kinds = database.metadata_columns(db)
        rows = [row for row in _readable(db) if row[5] == database.row_crc(list(kinds), row[:5], row[6:])]
    except (sqlite3.Error, ValueError, TypeError, KeyError, AssertionError) as error:
        raise IndexDamagedError(
            f"{path} cannot be mended: not even its settings can be read ({error}). Build the index again."
        ) from None

    def there_is(space: str, width: int) -> Vectors:
        none = np.empty(0, np.uint32)
        return _what_is_there(folder, files.get(space, ""), width, manifest.dtype, crcs.get(space, none))

    vectors = there_is(EMBEDDING, manifest.dimension)
    signatures = None if basis is None else there_is(SIGNATURE, basis.length)
    good = vectors.whole()
    if signatures is not None:
        also = signatures.whole()
        good[: len(also)] &= also[: len(good)]
        good[len(also) :] = False
    rows = [row for row in rows if 0 <= row[0] < len(vectors) and good[row[0]]]
    lost = manifest.count - len(rows)
    fresh = empty_state(replace(manifest, count=len(rows)), whitening, basis).db
    writer = Writer(fresh, None, None)
    writer.add(row[:5] for row in rows)
    writer.describe(kinds, {row[0]: row[6:] for row in rows})
    there = {row[0] for row in rows}
    writer.remove(place for place in range(len(vectors)) if place not in there)
    fresh.execute("COMMIT")
    return State(fresh, vectors, folder, signatures), lost, dropped


def _what_is_there(folder: Path, name: str, width: int, dtype: str, crcs: Any) -> Vectors:
    path = folder / name
    row_bytes = width * np.dtype(dtype).itemsize
    there = min(path.stat().st_size // row_bytes, len(crcs)) if name and row_bytes and path.is_file() else 0
    if not there:
        return Vectors([], width, str(path))
    kind = np.dtype(dtype).newbyteorder("<")
    return Vectors([(np.memmap(path, kind, "r", shape=(there, width)), crcs[:there])], width, str(path))


def _readable(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Rows up to a page that cannot be read, from both ends."""
    found: dict[int, tuple[Any, ...]] = {}
    for way in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error, OverflowError):
            for row in db.execute(f"SELECT * FROM picture ORDER BY _place {way}"):
                found.setdefault(row[0], row)
    return [found[place] for place in sorted(found)]
