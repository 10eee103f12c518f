"""One state of an index: its settings, rows and vectors, as they were when it was opened."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, IndexDamagedError, IndexMismatchError
from retina_fm.indexes import database
from retina_fm.indexes.exact import Positions
from retina_fm.indexes.vectors import Vectors
from retina_fm.models.whitening import Whitening
from retina_fm.signatures import SignatureBasis

FORMAT = 2
EMBEDDING = "embedding"
"""Name of the space of embeddings; each space has a file of vectors of its own."""
SIGNATURE = "signature"
"""Name of the space of signatures, where an index has them: a row for each embedding."""


@dataclass(frozen=True)
class ModelIdentity:
    """What made the embeddings.

    Attributes:
        reference: name or folder under which it was loaded.
        name: as its weights call it.
        weights_sha256: of what determines its features.
        transform_hash: of photo to view.
    """

    reference: str
    name: str
    weights_sha256: str
    transform_hash: str

    def difference(self, other: ModelIdentity) -> str | None:
        """In what the two differ, in words; None where they make the same embeddings."""
        if self.weights_sha256 != other.weights_sha256:
            mine, others = self.weights_sha256[:12], other.weights_sha256[:12]
            return f"weights {mine} of {self.name}, not {others} of {other.name}"
        if self.transform_hash != other.transform_hash:
            return f"transform {self.transform_hash}, not {other.transform_hash}"
        return None


@dataclass(frozen=True)
class Manifest:
    """What an index is.

    Attributes:
        metric: ``cosine`` or ``dot``.
        dimension: of the embeddings, D; 0 before there are any.
        dtype: in which embeddings are kept, ``float32`` or ``float16``.
        model: what made them; None for embeddings of the caller's own.
        whiten: whether whitening is applied at search.
        signature: hash of the basis of the signatures that it holds; None where it holds none. A signature
            recognises a person.
        count: pictures that can be found.
        next_number: the name of the next embedding without one; numbers are never used twice.
        generation: counts commits that changed what can be found.
        recall: of approximate against exact search, measured when ``index.faiss`` was made.
        pseudonyms: fingerprint of the key that ``patient_id`` is hidden by; None where ids are as they are.
    """

    metric: str = "cosine"
    dimension: int = 0
    dtype: str = "float32"
    model: ModelIdentity | None = None
    whiten: bool = False
    signature: str | None = None
    count: int = 0
    next_number: int = 0
    generation: int = 0
    recall: dict[str, Any] | None = None
    pseudonyms: str | None = None


def write_settings(
    db: sqlite3.Connection,
    manifest: Manifest,
    whitening: Whitening | None,
    basis: SignatureBasis | None = None,
) -> None:
    """Into the settings, inside the caller's transaction."""
    values: dict[str, Any] = {"format": FORMAT, **asdict(manifest)}
    rows: list[tuple[str, Any]] = [(name, json.dumps(value)) for name, value in values.items()]
    there = db.execute("SELECT 1 FROM settings WHERE name = 'whitening'").fetchone()
    if whitening is not None and not there:
        buffer = io.BytesIO()
        np.savez(buffer, mean=whitening.mean, directions=whitening.directions, gains=whitening.gains)
        rows.append(("whitening", buffer.getvalue()))
    if basis is not None and manifest.signature is not None:
        rows.append(("basis", basis.to_bytes()))
    db.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)
    db.execute("INSERT OR REPLACE INTO settings VALUES ('crc', ?)", (_settings_crc(db),))


def _settings_crc(db: sqlite3.Connection) -> int:
    return zlib.crc32(
        repr(db.execute("SELECT * FROM settings WHERE name != 'crc' ORDER BY name").fetchall()).encode()
    )


def read_settings(db: sqlite3.Connection, checked: bool = False) -> tuple[Manifest, Whitening | None]:
    """The inverse of :func:`write_settings`.

    Args:
        db: an index.
        checked: compare the settings with their own checksum too.

    Raises:
        IndexMismatchError: a newer release wrote it.
        ValueError: they were changed.
    """
    values = dict(db.execute("SELECT * FROM settings"))
    if checked and values.get("crc") != _settings_crc(db):
        raise ValueError("the settings have another checksum")
    values.pop("crc", None)
    values.pop("basis", None)
    raw = values.pop("whitening", None)
    settings = {name: json.loads(value) for name, value in values.items()}
    if settings.get("format") != FORMAT:
        raise IndexMismatchError(
            f"The index has format {settings.get('format')!r}, this release reads {FORMAT}; upgrade "
            "retina_fm or build it again."
        )
    known = {name: settings[name] for name in Manifest.__dataclass_fields__ if name in settings}
    if known.get("model"):
        known["model"] = ModelIdentity(**known["model"])
    whitening = None
    if raw is not None:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            whitening = Whitening(arrays["mean"], arrays["directions"], arrays["gains"])
    return Manifest(**known), whitening


def read_basis(db: sqlite3.Connection) -> SignatureBasis | None:
    """The basis of the signatures of an index, where it has any.

    Raises:
        WeightsError: it was changed.
    """
    found = db.execute("SELECT value FROM settings WHERE name = 'basis'").fetchone()
    return None if found is None else SignatureBasis.from_bytes(found[0], database.FILE)


class State:
    """Rows by place; a place counts vectors from zero, those that are no longer to be found included.

    Attributes:
        db: the database in memory.
        manifest: metric, model, counts.
        whitening: copied from the model when the index was made, or None.
        vectors: of all places.
        signatures: of all places, or None.
        basis: of the signatures, or None.
        live: ``(N,)``, whether a place can be found.
        folder: of the store, or None.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        vectors: Vectors,
        folder: Path | None,
        signatures: Vectors | None = None,
    ) -> None:
        self.db = db
        self.vectors = vectors
        self.signatures = signatures
        self.folder = folder
        self.manifest, self.whitening = read_settings(db)
        self.basis = read_basis(db)
        self.live = np.ones(len(vectors), np.bool_)
        self.live[[place for (place,) in db.execute("SELECT place FROM removed")]] = False
        self.lock = threading.RLock()

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def dimension(self) -> int:
        """Length D of the embeddings."""
        return self.manifest.dimension

    @property
    def total(self) -> int:
        """Places, those that are not to be found included."""
        return len(self.vectors)

    @cached_property
    def live_positions(self) -> Positions:
        """Places of the rows that can be found."""
        return np.flatnonzero(self.live)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Names and SQL types of the metadata's columns."""
        return database.metadata_columns(self.db)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement that only reads; one at a time, from any thread."""
        with self.lock:
            return self.db.execute(sql, parameters).fetchall()

    def among(self, columns: str, key: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        """``columns`` of the pictures whose key is one of many values."""
        sql = f"SELECT {columns} FROM picture WHERE {key} IN (SELECT value FROM json_each(?))"
        return self.query(sql, (json.dumps(list(values)),))

    def find(self, paths: Sequence[str]) -> Positions:
        """Places of stored paths among the rows that can be found, -1 where there is none."""
        if paths and not self._has_path_index:
            self.query("CREATE INDEX IF NOT EXISTS by_path ON picture (_path)")
            self._has_path_index = True
        keys = {state_name(path) for path in paths if path}
        known = {str(path): place for path, place in self.among("_path, _place", "_path", keys)}
        return np.array([known.get(path, -1) for path in paths], np.int64)

    _has_path_index = False

    def rows(self) -> list[database.Row]:
        """All rows that can be found, in the order of their places."""
        found: list[Any] = self.query(f"SELECT {', '.join(database.OWN[:5])} FROM picture ORDER BY _place")
        return found

    def stored_paths(self) -> list[str]:
        """In the order of :attr:`live_positions`."""
        return [str(path) for (path,) in self.query("SELECT _path FROM picture ORDER BY _place")]

    @cached_property
    def base(self) -> str:
        """What paths are relative to: the folder as it was given where no link lies in it."""
        folder = os.fspath(self.folder or "")
        real = os.path.realpath(folder)
        return folder if os.path.abspath(folder) == real else real  # noqa: PTH100  links are to stay

    def usable(self, stored: str) -> str:
        """A row's path as the caller can open it from where he is."""
        if self.manifest.model is None or stored.startswith("sha256:"):
            return stored
        if self.folder is None:  # relative to the working folder, which may change
            return str(Path(stored).resolve()) if stored.startswith("..") else stored
        return os.path.normpath(os.path.join(self.base, stored))  # noqa: PTH118  called once a picture


def empty_state(
    manifest: Manifest, whitening: Whitening | None, basis: SignatureBasis | None = None
) -> State:
    """A state in memory without rows."""
    db = database.connect_memory()
    for statement in database.SCHEMA:
        db.execute(statement)
    write_settings(db, manifest, whitening, basis)
    signatures = None if basis is None else Vectors([], basis.length, "memory")
    return State(db, Vectors([], 0, "memory"), None, signatures)


def state_name(path: str | int) -> str | int:
    """A path as rows hold it: names that are numbers take less room as such."""
    if (
        isinstance(path, str)
        and path.isascii()
        and path.isdigit()
        and len(path) < 19
        and str(int(path)) == path
    ):
        return int(path)
    return path


def read_state(folder: Path) -> State | None:
    """The state that ``index.db`` holds now; None where there is none, or one that was never finished.

    Raises:
        IndexDamagedError: files are cut, changed or missing.
        IndexMismatchError: a newer release wrote it.
    """
    while True:
        db = database.read(folder)
        if db is None:
            return None
        try:
            manifest = read_settings(db)[0]
            if not manifest.generation:
                return None
            signatures = None if manifest.signature is None else _map_vectors(folder, db, SIGNATURE)
            return State(db, _map_vectors(folder, db, EMBEDDING), folder, signatures)
        except FileNotFoundError as error:  # a writer may have replaced the file since
            again = database.read(folder)
            files = "SELECT * FROM space"
            if again is not None and again.execute(files).fetchall() != db.execute(files).fetchall():
                continue
            raise IndexDamagedError(f"{error.filename} is missing; build the index {folder} again.") from None
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            if isinstance(error, IndexMismatchError):
                raise
            raise IndexDamagedError(f"{folder / database.FILE} is no index of retina_fm ({error}).") from None


def _map_vectors(folder: Path, db: sqlite3.Connection, space: str) -> Vectors:
    found = db.execute("SELECT file, dimension, dtype FROM space WHERE name = ?", (space,)).fetchone()
    if found is None:
        return Vectors([], 0, "")
    name, dimension, dtype = found
    path, kind = folder / database.own_name(name), np.dtype(str(dtype)).newbyteorder("<")
    crcs, rows = stored_checksums(db, name)
    if not rows:
        return Vectors([], dimension, str(path))
    size, wanted = path.stat().st_size, rows * dimension * kind.itemsize
    if size < wanted:
        raise IndexDamagedError(
            f"{path} is cut: it has {size} of {wanted} bytes. 'retina-fm index --store {folder} --rebuild' "
            "keeps the rows that are there; the photos of the others are encoded again when the index is "
            "next brought up to date."
        )
    return Vectors([(np.memmap(path, kind, "r", shape=(rows, dimension)), crcs)], dimension, str(path))


def stored_checksums(db: sqlite3.Connection, file: str) -> tuple[NDArray[np.uint32], int]:
    """CRC-32 of each row of a vectors file, and how many rows there are."""
    parts = db.execute("SELECT crc FROM checksum WHERE file = ? ORDER BY first", (file,)).fetchall()
    crcs = np.frombuffer(b"".join(part for (part,) in parts), "<u4").astype(np.uint32, copy=False)
    return crcs, len(crcs)


def stored_path(path: str | os.PathLike[str], folder: Path, seen: dict[str, str] | None = None) -> str:
    """A file's path as rows hold it: relative to where the store really lies, with slashes.

    Links in both folders are followed, so that an index opened through another path knows its pictures.

    Args:
        path: of the file.
        folder: of the store.
        seen: folders that were looked up already, for many files.

    Raises:
        ConfigError: its name is no text (bytes of another encoding).
    """
    seen = {} if seen is None else seen
    head, tail = os.path.split(os.path.abspath(path))  # noqa: PTH100  links are to stay
    for place in (head, os.fspath(folder)):
        if place not in seen:
            seen[place] = os.path.realpath(place)
    whole = os.path.join(seen[head], tail)  # noqa: PTH118  called once a photo
    try:
        relative = Path(os.path.relpath(whole, seen[os.fspath(folder)])).as_posix()
    except ValueError:  # another drive
        relative = Path(whole).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{relative!r}: the name is no valid text; rename the file.") from None
    return relative
