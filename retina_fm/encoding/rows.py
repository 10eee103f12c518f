"""Rows of an embedding table: their columns, their keys, and the files that hold them."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retina_fm._io.files import written_beside
from retina_fm._io.names import as_text
from retina_fm._io.parquet_seals import EMPTY, KEY, check_parquet, seal_parquet
from retina_fm.errors import PictureError
from retina_fm.pictures import Geometry, describe, read_picture
from retina_fm.pictures.files import Stamp, spelt_as_on_disk
from retina_fm.pictures.pages import which_picture
from retina_fm.pictures.tags import COLUMNS, NOTHING, Tags

ROW_GROUP = 1024


class Key(NamedTuple):
    """What a row belongs to; the same key means that nothing needs to be encoded again.

    Attributes:
        path: as written into the table.
        size: of the file, in bytes.
        mtime_ns: of the file's last change.
    """

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Elsewhere(ABC):
    """A photo that is fetched where it is decoded, and listed with its key.

    Attributes:
        key: of its row.
        name: what messages call it.
    """

    key: Key
    name: str

    @abstractmethod
    def fetch(self) -> bytes:
        """Its bytes; whatever is raised becomes the photo's error."""


@dataclass(frozen=True)
class Encoded:
    """One encoded photo."""

    key: Key
    embedding: np.ndarray
    geometry: Geometry
    signature: np.ndarray | None = None
    tags: Tags = NOTHING


def key_of(photo: Any, folder: Path, position: int) -> Key:
    """Path relative to the table's folder, size and time of a file; hash of anything else.

    A photo that cannot even be looked at gets a key of its own, and its error when it is decoded.
    """
    if isinstance(photo, Elsewhere):
        return photo.key
    path = _path_of(photo)
    if path is not None:
        try:
            status = os.stat(spelt_as_on_disk(path))  # noqa: PTH116  called once a photo
        except (OSError, ValueError):
            return Key(f"unreadable:{position}:{as_text(os.fspath(path))}", 0, 0)
        return Key(_name_of(photo, path, folder), status.st_size, status.st_mtime_ns)
    try:
        data = _content(photo)
    except PictureError:
        return Key(f"unreadable:{position}:{describe(photo)}", 0, 0)
    return Key(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), 0)


def key_decoded(key: Key, photo: Any, folder: Path, stamp: Stamp | None) -> Key:
    """The key of what was decoded, where a file has changed since :func:`key_of` looked at it."""
    path = _path_of(photo)
    if stamp is None or path is None:
        return key
    return Key(_name_of(photo, path, folder), stamp.size, stamp.mtime_ns)


def schema(dimension: int, metadata: Mapping[str, str], signature: int = 0) -> pa.Schema:
    """Columns of an embedding table of length-D vectors, and of signatures where these have a length."""
    more = [("signature", pa.list_(pa.float32(), signature))] if signature else []
    return pa.schema(
        [
            ("path", pa.string()),
            ("embedding", pa.list_(pa.float32(), dimension)),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("fov_y", pa.float64()),
            ("fov_x", pa.float64()),
            ("fov_radius", pa.float64()),
            ("fov_circle", pa.bool_()),
            ("file_size", pa.int64()),
            ("file_mtime_ns", pa.int64()),
            *((name, pa.string()) for name in COLUMNS),
            *more,
        ],
        metadata={**metadata, KEY: EMPTY},
    )


def table_of(rows: list[Encoded], columns: pa.Schema) -> pa.Table:
    """Rows as a table of that schema."""
    matrix = np.stack([row.embedding for row in rows]).astype(np.float32, copy=False)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    geometries = [row.geometry for row in rows]
    values: list[Any] = [
        [row.key.path for row in rows],
        vectors,
        [geometry.width for geometry in geometries],
        [geometry.height for geometry in geometries],
        [geometry.centre_y for geometry in geometries],
        [geometry.centre_x for geometry in geometries],
        [geometry.radius for geometry in geometries],
        [geometry.circle for geometry in geometries],
        [row.key.size for row in rows],
        [row.key.mtime_ns for row in rows],
        *([getattr(row.tags, name) for row in rows] for name in COLUMNS),
    ]
    if "signature" in columns.names:
        signatures = np.stack([row.signature for row in rows if row.signature is not None])
        length = signatures.shape[1]
        values.append(pa.FixedSizeListArray.from_arrays(pa.array(signatures.reshape(-1)), length))
    return pa.table(
        [pa.array(v, t) if isinstance(v, list) else v for v, t in zip(values, columns.types, strict=True)],
        schema=columns,
    )


def write_part(path: Path, rows: pa.Table) -> None:
    """One part file, whole or not at all."""
    with written_beside(path) as scratch:
        pq.write_table(rows, scratch, compression="none")
        seal_parquet(scratch)


def keys_in(path: Path) -> list[Key]:
    """The keys of a table's rows, in order.

    Raises:
        OSError, ValueError, KeyError: it cannot be read, or was changed since it was written.
    """
    check_parquet(path)
    table = pq.read_table(path, columns=["path", "file_size", "file_mtime_ns"])
    return [Key(*values) for values in zip(*(column.to_pylist() for column in table.columns), strict=True)]


class RowReader:
    """Single rows out of many files, with only the row groups last used in memory."""

    _KEPT = 4

    def __init__(self) -> None:
        self._files: dict[Path, tuple[pq.ParquetFile, list[int]]] = {}
        self._groups: dict[tuple[Path, int], pa.Table] = {}

    def row(self, path: Path, index: int) -> pa.Table:
        """Row ``index`` of a file, as a table of one row."""
        file, starts = self._open(path)
        group = int(np.searchsorted(starts, index, side="right")) - 1
        if (path, group) not in self._groups:
            while len(self._groups) >= self._KEPT:
                self._groups.pop(next(iter(self._groups)))
            self._groups[path, group] = file.read_row_group(group)
        return self._groups[path, group].slice(index - starts[group], 1)

    def _open(self, path: Path) -> tuple[pq.ParquetFile, list[int]]:
        if path not in self._files:
            if len(self._files) >= 64:  # a run may have more parts than a process may hold files
                self._files.pop(next(iter(self._files)))[0].close()
            file = pq.ParquetFile(path)
            counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            self._files[path] = file, [0, *np.cumsum(counts).tolist()][:-1]
        return self._files[path]

    def close(self) -> None:
        """Close every file."""
        for file, _ in self._files.values():
            file.close()
        self._files.clear()
        self._groups.clear()


def _path_of(photo: Any) -> str | os.PathLike[str] | None:
    path = photo.get("path") if isinstance(photo, dict) and not photo.get("bytes") else photo
    return path if isinstance(path, str | os.PathLike) else None


def name_in(path: str | os.PathLike[str], folder: Path) -> str:
    """A path as tables in ``folder`` write it: relative, with ``/`` between its parts."""
    return as_text(_relative(Path(path), folder))


def _name_of(photo: Any, path: str | os.PathLike[str], folder: Path) -> str:
    frame = photo.get("frame") if isinstance(photo, dict) else None
    return name_in(path, folder) + ("" if frame is None else f"#frame={frame}")


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _content(photo: Any) -> bytes:
    """What tells a photo that is no file from others: its bytes, or its decoded pixels."""
    data = photo.get("bytes") if isinstance(photo, dict) else photo
    if isinstance(data, bytes):
        return data + which_picture(photo).encode()
    picture = read_picture(photo)
    return f"{picture.shape}".encode() + picture.tobytes() + which_picture(photo).encode()
