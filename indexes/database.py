"""``index.db``: the one file that says what an index consists of. One SQLite transaction is one commit.

Readers take no lock. They read the file as a whole, check it, and keep a copy in memory: rows, metadata and
settings of one generation, whatever a writer does later, also from a folder that cannot be written.

SQLite has no checksums of its own. So each commit is sealed: the header's ``user_version`` is the CRC-32 of
all other bytes, and its ``application_id`` says that it is. A writer that was killed between commit and seal
leaves a file that is open, whose rows are then checked one by one.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import stat
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from retina_fm.errors import IndexDamagedError, OutputError

FILE = "index.db"
JOURNAL = "index.db-journal"
_MAGIC = b"SQLite format 3\x00"
_HEADER = 100
_SEALED, _OPEN = 0x52464D49, 0x52464D96  # seven bits apart: no flipped bit turns one into the other
_PATIENCE = 10.0
_PAUSE = 0.2

_ROW = "(place INTEGER PRIMARY KEY, path NOT NULL, size INTEGER, mtime_ns INTEGER, sha256 TEXT, crc INTEGER)"
SCHEMA = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE file (name TEXT PRIMARY KEY, state TEXT NOT NULL)",
    "CREATE TABLE space (name TEXT PRIMARY KEY, file TEXT NOT NULL, dimension INTEGER NOT NULL, dtype TEXT)",
    "CREATE TABLE checksum (file TEXT, first INTEGER, rows INTEGER, crc BLOB, PRIMARY KEY (file, first))",
    f"CREATE TABLE picture {_ROW}",
    f"CREATE TABLE pending {_ROW}",
    "CREATE TABLE hidden (place INTEGER PRIMARY KEY)",
    "CREATE TABLE metadata (_place INTEGER PRIMARY KEY, _crc INTEGER)",
)
"""What each table holds.

* ``settings``: format, metric, model, generation and the like, as JSON; the whitening as an ``.npz``.
* ``file``: every file beside this one, ``used``, ``new`` (being written) or ``old`` (to be removed).
* ``space``: a column of vectors and the file it lies in.
* ``checksum``: CRC-32 of each vector's bytes, four bytes a row, by stretches of the file.
* ``picture``: a row a picture; ``place`` counts vectors in their file, ``path`` is relative to the folder, or
  a number where embeddings were given without names.
* ``pending``: rows of a build that is not finished; ``hidden``: places that are not to be found.
* ``metadata``: a row a picture, a column each with its own name and type.

``crc`` is that of the row's other values, so that rows of a damaged file can be told.
"""

_OURS = re.compile(
    r"vectors-\d+\.f(32|16)|index\.faiss(\.new)?"
    # files of the format before this one
    r"|manifest\.json|index\.json|vectors/part-\d+-\d+\.(npy|parquet)|(metadata|removed|whitening)-\d+\.\w+"
)

Row = tuple[int, str | int, int, int, str | None]
"""Place, path, size, mtime in nanoseconds, SHA-256 of the file."""


def stamped(rows: Iterable[Row]) -> Iterator[tuple[Any, ...]]:
    """Rows with their checksum."""
    return ((*row, zlib.crc32(repr(tuple(row)).encode())) for row in rows)


def metadata_crc(names: Iterable[str], place: int, values: Iterable[Any]) -> int:
    """Checksum of a row of metadata; columns without a value do not count, so that columns can be added."""
    known = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    return zlib.crc32(repr((place, known)).encode())


def quoted(name: str) -> str:
    """A column's name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def connect_memory() -> sqlite3.Connection:
    """An empty database in memory."""
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def connect_file(folder: Path, name: str = FILE) -> sqlite3.Connection:
    """For the one writer; what a killed one left half done is undone.

    Raises:
        OutputError: the file is a link.
    """
    path = folder / name
    if path.is_symlink() or path.with_name(f"{name}-journal").is_symlink():
        raise OutputError(f"{path} is a link; an index is changed only where it lies. Open it there.")
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=DELETE", "synchronous=FULL", "fullfsync=ON", "cache_spill=OFF",
                    "trusted_schema=OFF"):  # fmt: skip
        db.execute(f"PRAGMA {setting}")
    return db


def begin(db: sqlite3.Connection) -> None:
    """Start a transaction, if none is open, that leaves the file unsealed."""
    if not db.in_transaction:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA application_id={_OPEN}")


def commit(db: sqlite3.Connection, path: Path | None) -> None:
    """Commit, and seal the file."""
    db.execute("COMMIT")
    if path is None:
        return
    with path.open("rb") as stream:
        header = bytearray(stream.read(_HEADER))
        # the seal's own transaction counts one further, and is the last to
        counter = (int.from_bytes(header[24:28], "big") + 1) & 0xFFFFFFFF
        header[24:28] = header[92:96] = counter.to_bytes(4, "big")
        header[68:72] = _SEALED.to_bytes(4, "big")
        crc = zlib.crc32(_unsealed(header))
        while chunk := stream.read(4 << 20):
            crc = zlib.crc32(chunk, crc)
    signed = crc - (1 << 32) if crc >= 1 << 31 else crc
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"PRAGMA application_id={_SEALED}")
    db.execute(f"PRAGMA user_version={signed}")
    db.execute("COMMIT")


def read(folder: Path) -> sqlite3.Connection | None:
    """The state of ``index.db`` now, checked, in memory; None where there is none.

    Raises:
        IndexDamagedError: it was changed, is cut, or is something else.
    """
    path, journal = folder / FILE, folder / JOURNAL
    last: object = None
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise IndexDamagedError(f"{path} cannot be read ({error.strerror}).") from None
        if is_sealed(data):
            return in_memory(data)
        # a writer may be at work between these lines: only what stays as it is, is judged
        found = zlib.crc32(data), journal.exists()
        if found == last or time.monotonic() > deadline:
            return _left_behind(path, journal, data)
        last = found
        time.sleep(_PAUSE)


def is_ours(header: bytes) -> bool:
    """Whether a file begins as an index does."""
    return header[:16] == _MAGIC and int.from_bytes(header[68:72], "big") in (_SEALED, _OPEN)


def is_sealed(data: bytes) -> bool:
    """Whether a file's bytes are those that its header states."""
    header = data[:_HEADER]
    if len(header) < _HEADER or header[:16] != _MAGIC or int.from_bytes(header[68:72], "big") != _SEALED:
        return False
    crc = zlib.crc32(memoryview(data)[_HEADER:], zlib.crc32(_unsealed(header)))
    return crc == int.from_bytes(header[60:64], "big")


def in_memory(data: bytes, native: bool = hasattr(sqlite3.Connection, "deserialize")) -> sqlite3.Connection:
    """A file's bytes as a database in memory (``native`` needs Python 3.11)."""
    db = connect_memory()
    if native:
        db.deserialize(data)  # type: ignore[attr-defined, unused-ignore]
    else:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / FILE
            copy.write_bytes(data)
            with contextlib.closing(sqlite3.connect(copy)) as source:
                source.backup(db)
    db.execute("PRAGMA trusted_schema=OFF")
    return db


def row_faults(db: sqlite3.Connection) -> list[str]:
    """What is wrong with pages, rows and metadata by their own checksums, in words."""
    faults = [text for (text,) in db.execute("PRAGMA integrity_check(5)") if text != "ok"]
    for table in ("picture", "pending"):
        bad = sum(row != again for row, again in _with_crc(db, table))
        faults += [f"{bad} rows of {table} were changed"] if bad else []
    names = metadata_columns(db)
    bad = sum(crc != metadata_crc(names, place, values)
              for place, crc, *values in db.execute("SELECT * FROM metadata"))  # fmt: skip
    return faults + ([f"{bad} rows of metadata were changed"] if bad else [])


def metadata_columns(db: sqlite3.Connection) -> dict[str, str]:
    """Names and types of the metadata's columns."""
    return {name: kind for _, name, kind, *_ in db.execute("PRAGMA table_info(metadata)")
            if name not in ("_place", "_crc")}  # fmt: skip


def own_name(name: str) -> str:
    """A file's name from the database, if it is one that we give.

    Raises:
        IndexDamagedError: it is not.
    """
    if not _OURS.fullmatch(name):
        raise IndexDamagedError(f"{FILE} names the file {name!r}, which is none of an index.")
    return name


def remove_file(folder: Path, name: str) -> bool:
    """Remove a file that the database names: a plain file with a name of ours, never through a link.

    Returns:
        Whether it is gone.
    """
    path = folder / name
    if not _OURS.fullmatch(name) or path.parent.is_symlink():
        return True
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError:  # some systems keep files that a reader has open
        return False
    return True


def _with_crc(db: sqlite3.Connection, table: str) -> Iterator[tuple[Any, Any]]:
    rows = db.execute(f"SELECT * FROM {table}").fetchall()
    return zip(rows, stamped(row[:-1] for row in rows), strict=True)


def _unsealed(header: bytes | bytearray) -> bytes:
    return bytes(header[:60]) + bytes(4) + bytes(header[64:])


def _left_behind(path: Path, journal: Path, data: bytes) -> sqlite3.Connection | None:
    """What a killed writer left: its journal undone in a copy, or a commit that was not sealed."""
    try:
        if journal.exists():
            with tempfile.TemporaryDirectory() as scratch:
                for source in (path, journal):
                    shutil.copyfile(source, Path(scratch) / source.name)
                with contextlib.closing(sqlite3.connect(Path(scratch) / FILE)) as db:
                    db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                data = (Path(scratch) / FILE).read_bytes()
        if not data:
            return None
        if is_sealed(data):
            return in_memory(data)
        if data[:16] == _MAGIC and int.from_bytes(data[68:72], "big") == _OPEN:
            db = in_memory(data)
            if not row_faults(db):
                return db
    except (OSError, sqlite3.Error):
        pass
    raise IndexDamagedError(
        f"{path} was changed, is cut, or is no index of retina_fm: its checksum is another. 'retina-fm index "
        f"--store {path.parent} --rebuild' keeps every row whose own checksum is right."
    )
