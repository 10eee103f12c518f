"""Rows of an index: what is known about each picture beside its embedding."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.errors import ConfigError

COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("sha256", pa.string()),
        ("crc32", pa.uint32()),
    ]
)
"""Columns of a part; ``crc32`` is that of the row's embedding, so that rows of a damaged file can be told."""


@dataclass(frozen=True)
class Rows:
    """New rows, before they have ids.

    Attributes:
        paths: unique; of files relative to the store, of anything else a name.
        sizes: of the files in bytes, 0 where there is none.
        mtimes: of the files in nanoseconds, 0 where there is none.
        hashes: SHA-256 of the files, None where unknown.
        embeddings: ``(n, D)``, as the model gave them.
    """

    paths: list[str]
    sizes: list[int]
    mtimes: list[int]
    hashes: list[str | None]
    embeddings: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def named(cls, paths: list[str], embeddings: NDArray[np.floating]) -> Rows:
        """Rows of embeddings that come from no file."""
        nothing = [0] * len(paths)
        return cls(paths, nothing, nothing, [None] * len(paths), embeddings)

    def part(self, start: int, stop: int) -> Rows:
        """Some of the rows."""
        return Rows(
            self.paths[start:stop],
            self.sizes[start:stop],
            self.mtimes[start:stop],
            self.hashes[start:stop],
            self.embeddings[start:stop],
        )

    def table(self, first_id: int) -> pa.Table:
        """As columns, with ids counted from ``first_id``."""
        ids = np.arange(first_id, first_id + len(self))
        columns = [ids, self.paths, self.sizes, self.mtimes, self.hashes, checksums(self.embeddings)]
        arrays = [pa.array(v, t) for v, t in zip(columns, COLUMNS.types, strict=True)]
        return pa.table(arrays, schema=COLUMNS)


def checksums(embeddings: NDArray[np.floating]) -> NDArray[np.uint32]:
    """CRC-32 of each row's bytes."""
    rows = np.ascontiguousarray(embeddings)
    return np.fromiter((zlib.crc32(row.data) for row in rows), np.uint32, len(rows))


def stored_path(path: str | os.PathLike[str], folder: Path) -> str:
    """A file's path as rows hold it: relative to the store, with slashes.

    Raises:
        ConfigError: its name is no text (bytes of another encoding).
    """
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        relative = Path(path).resolve().as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{relative!r}: the name is no valid text; rename the file.") from None
    return relative


def usable_path(stored: str, folder: Path | None) -> str:
    """A row's path as the caller can open it from where he is."""
    if stored.startswith("sha256:"):
        return stored
    if folder is None:  # relative to the working folder, which may change
        return str(Path(stored).resolve()) if stored.startswith("..") else stored
    return os.path.normpath(folder / stored)
