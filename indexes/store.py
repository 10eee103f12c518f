"""An index's place: its state in either format or in LanceDB, its only writer, and a check of every byte."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retina_fm.errors import IndexNotFoundError, RetinaError
from retina_fm.indexes import cache, database, lance_store, old_format
from retina_fm.indexes.lance_places import LancePlace
from retina_fm.indexes.state import State, read_state
from retina_fm.indexes.writer import CACHE, Writer, locked, reporting, unwritten


def open_state(folder: Path | LancePlace) -> State:
    """The state of an index on disk now.

    Raises:
        IndexNotFoundError: there is no index.
        IndexDamagedError: files are cut, changed or missing.
        IndexMismatchError: a newer release wrote it.
    """
    if isinstance(folder, LancePlace):
        return lance_store.open_state(folder)
    state = read_state(folder)
    if state is not None:
        return state
    if old_format.is_there(folder):
        return old_format.read(folder)
    what = "was never finished; run 'retina-fm index' with the photos again"
    if not (folder / database.FILE).exists():
        what = f"is not there. 'retina-fm index FOLDER --store {folder}' makes one"
    raise IndexNotFoundError(f"{folder} holds no index: {database.FILE} {what}.")


@contextmanager
def writing(
    folder: Path | LancePlace | None, wait: float = 0.0, memory: State | None = None
) -> Iterator[Writer]:
    """The only writer of an index, for the length of a block; the system frees the lock of a killed one.

    What was not committed when the block ends is forgotten.

    Args:
        folder: of the index; made if need be. None for an index in memory.
        wait: seconds to wait for another writer.
        memory: state of an index in memory.

    Raises:
        OutputError: another process writes, or the folder cannot be written.
        IndexDamagedError: the state that is there must not be built upon.
    """
    if isinstance(folder, LancePlace):
        with lance_store.writing(folder, wait, memory) as lance_writer:
            yield lance_writer
        return
    if folder is None:
        writer = Writer(memory.db if memory is not None else database.connect_memory(), None, memory)
        try:
            yield writer
        finally:
            writer.close()
        return
    lock = locked(folder, wait)
    try:
        state = None
        with contextlib.suppress(IndexNotFoundError):
            state = open_state(folder)
        with reporting(folder):
            db = database.connect_file(folder)
        with contextlib.closing(db):
            writer = Writer(db, folder, state)
            try:
                writer.tidy()
                yield writer
            except sqlite3.Error as error:
                raise unwritten(folder, error) from error
            finally:
                writer.close()
    finally:
        lock.release()


def verify(folder: Path | LancePlace) -> list[str]:
    """Read every byte of an index; what is wrong, in words, empty where nothing is.

    Raises:
        IndexNotFoundError: there is no index.
    """
    if isinstance(folder, LancePlace):
        return lance_store.verify(folder)
    try:
        state = open_state(folder)
    except IndexNotFoundError:
        raise
    except RetinaError as error:
        return [str(error)]
    faults = []
    for vectors in (state.vectors, state.signatures):
        bad = 0 if vectors is None else int((~vectors.whole()).sum())
        if vectors is not None and bad:
            faults.append(f"{vectors.name}: {bad} of {state.total} rows were changed")
    rows = state.rows()
    if len(rows) != len(state) or [row[0] for row in rows] != state.live_positions.tolist():
        faults.append(f"{folder} holds {len(rows)} rows, its settings count {len(state)}")
    if len({str(row[1]) for row in rows}) < len(rows):
        faults.append(f"{folder}: paths occur twice")
    if old_format.is_there(folder) and not (folder / database.FILE).exists():
        return faults  # the cache of that format is not used
    try:
        cache.read_about(folder / CACHE)
    except FileNotFoundError:
        if len(state):
            faults.append(f"{folder / CACHE} is missing; it is made again by itself or with --rebuild")
    except Exception as error:
        faults.append(f"{folder / CACHE} is damaged ({error}); it is made again by itself or with --rebuild")
    return faults
