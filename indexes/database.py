"""``index.db``: the one file that says what an index consists of. One SQLite transaction is one commit.

Readers take no lock. They read the file as a whole, check it, and keep a copy in memory: rows, metadata and
settings of one generation, whatever a writer does later, also from a folder that cannot be written.

SQLite has no checksums of its own. So each commit is sealed: the CRC-32 of all other bytes takes the place
of ``user_version`` in the header, and ``application_id`` says that it does. A writer that was killed between
commit and seal leaves a file that is open; its pages are then checked by SQLite.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import stat
import tempfile
import time
import zlib
from collections.abc import Sequence
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
_FACTORS, _MODULUS = (2654435761, 2246822519), 4294967291

SCHEMA = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE file (name TEXT PRIMARY KEY, state TEXT NOT NULL)",
    "CREATE TABLE space (name TEXT PRIMARY KEY, file TEXT NOT NULL, dimension INTEGER NOT NULL, dtype TEXT)",
    "CREATE TABLE checksum (file TEXT, first INTEGER, rows INTEGER, crc BLOB, PRIMARY KEY (file, first))",
    "CREATE TABLE picture (_place INTEGER PRIMARY KEY, _path NOT NULL, _size INTEGER, _mtime_ns INTEGER, "
    "_sha256 TEXT, _crc INTEGER)",
    "CREATE TABLE removed (place INTEGER PRIMARY KEY)",
)
"""What each table holds.

* ``settings``: format, metric, model, generation and the like, as JSON; the whitening as an ``.npz``.
* ``file``: every file beside this one: ``used``, ``new`` (being written), ``old`` (to be removed), or
  ``spare`` (for scratch; removed where it is left behind).
* ``space``: a column of vectors and the file it lies in.
* ``checksum``: CRC-32 of each vector's bytes, four bytes a row, by stretches of the file.
* ``picture``: a row a picture. ``_place`` counts vectors in their file; ``_path`` is relative to the folder,
  or a number where embeddings were given without names; ``_size``, ``_mtime_ns`` and ``_sha256`` are the
  file's; ``_crc`` is that of the row's other values, so that rows of a damaged file can be told. Metadata
  follow, a column each with its own name and type.
* ``removed``: places whose picture is not to be found any more.
"""
OWN = ("_place", "_path", "_size", "_mtime_ns", "_sha256", "_crc")

_OURS = re.compile(
    r"vectors-\d+\.f(32|16)|index\.faiss(\.new)?"
    # files of the format before this one
    r"|manifest\.json|index\.json|vectors/part-\d+-\d+\.(npy|parquet)|(metadata|removed|whitening)-\d+\.\w+"
)

Row = tuple[int, str | int, int, int, str | None]
"""Place, path, size, mtime in nanoseconds, SHA-256 of the file."""


def row_crc(names: Sequence[str], row: Row, values: Sequence[Any] = ()) -> int:
    """Checksum of a row and its metadata; what has no value does not count, so that columns can be added."""
    known = [pair for pair in zip(names, values, strict=True) if pair[1] is not None] if values else []
    place, path, size, mtime, digest = row
    if type(path) is int and not (size or mtime or digest or known):
        return (place * _FACTORS[0] + path * _FACTORS[1]) % _MODULUS  # SQLite itself can fill these in
    return zlib.crc32(repr((row, known) if known else row).encode())


def add_rows(db: sqlite3.Connection, rows: list[Row]) -> None:
    """Rows without metadata."""
    if any(isinstance(row[1], int) for row in rows):
        crcs = [row_crc((), row) for row in rows]
    else:  # the same, without a call a row
        crcs = list(map(zlib.crc32, map(str.encode, map(repr, rows))))
    columns = ", ".join(OWN)
    whole = ((*row, crc) for row, crc in zip(rows, crcs, strict=True))
    db.executemany(f"INSERT OR REPLACE INTO picture ({columns}) VALUES (?, ?, ?, ?, ?, ?)", whole)


def add_numbers(db: sqlite3.Connection, place: int, number: int, count: int) -> None:
    """Rows of embeddings that are called by their numbers."""
    crc = f"((?1 + n) * {_FACTORS[0]} + (?2 + n) * {_FACTORS[1]}) % {_MODULUS}"
    db.execute(
        "WITH RECURSIVE i (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n + 1 < ?3) "
        "INSERT INTO picture (_place, _path, _size, _mtime_ns, _crc) "
        f"SELECT ?1 + n, ?2 + n, 0, 0, {crc} FROM i",
        (place, number, count),
    )


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
                    "trusted_schema=OFF", "secure_delete=ON"):  # fmt: skip
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
    with path.open("rb+", buffering=0) as stream:
        header = bytearray(stream.read(_HEADER))
        counter = (int.from_bytes(header[24:28], "big") + 1) & 0xFFFFFFFF
        header[24:28] = header[92:96] = counter.to_bytes(4, "big")  # so that SQLite reads the page again
        header[68:72] = _SEALED.to_bytes(4, "big")
        crc = zlib.crc32(_unsealed(header))
        while chunk := stream.read(4 << 20):
            crc = zlib.crc32(chunk, crc)
        header[60:64] = crc.to_bytes(4, "big")
        stream.seek(0)
        stream.write(header)  # less than a sector: all of it or nothing
        os.fsync(stream.fileno())


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
        late = time.monotonic() > deadline
        if found == last or late:
            try:
                return _left_behind(path, journal, data)
            except IndexDamagedError:
                if late or not found[1]:
                    raise
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


def metadata_columns(db: sqlite3.Connection) -> dict[str, str]:
    """Names and types of the metadata's columns."""
    columns = db.execute("PRAGMA table_info(picture)").fetchall()
    return {name: kind for _, name, kind, *_ in columns if name not in OWN}


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
            if db.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",):
                return db
    except (OSError, sqlite3.Error):
        pass
    raise IndexDamagedError(
        f"{path} was changed, is cut, or is no index of retina_fm: its checksum is another. 'retina-fm index "
        f"--store {path.parent} --rebuild' keeps every row whose own checksum is right."
    )
