"""Part files, the truth of an index: vectors in ``.npy``, their rows in ``.parquet``, never changed.

``.npy`` can be memory-mapped and read row by row, which re-ranking needs; Parquet cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of, written_beside
from retina_fm.errors import IndexDamagedError
from retina_fm.indexes.rows import checksums

FOLDER = "vectors"
_WRITTEN = 4096


@dataclass(frozen=True)
class Part:
    """One pair of part files, as the manifest lists it.

    Attributes:
        name: of both files, without suffix.
        rows: how many.
        sizes: bytes of the vectors' and the rows' file.
        hashes: SHA-256 of the two.
    """

    name: str
    rows: int
    sizes: tuple[int, int]
    hashes: tuple[str, str]

    def files(self, store: Path) -> tuple[Path, Path]:
        """The vectors' file and the rows' file."""
        return store / FOLDER / f"{self.name}.npy", store / FOLDER / f"{self.name}.parquet"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "rows": self.rows, "sizes": [*self.sizes], "sha256": [*self.hashes]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Part:
        """The inverse of :meth:`as_dict`."""
        return cls(
            str(values["name"]),
            int(values["rows"]),
            (int(values["sizes"][0]), int(values["sizes"][1])),
            (str(values["sha256"][0]), str(values["sha256"][1])),
        )


def write_part(
    store: Path, name: str, rows: pa.Table, blocks: Iterable[NDArray[np.floating]], width: int, dtype: str
) -> Part:
    """Write both files, each whole or not at all, and flushed to the disk.

    Args:
        store: folder of the index.
        name: of the part; must be new.
        rows: see :data:`retina_fm.indexes.rows.COLUMNS`.
        blocks: embeddings ``(n, D)`` in the order of the rows.
        width: D.
        dtype: ``float32`` or ``float16``.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    part = Part(name, rows.num_rows, (0, 0), ("", ""))
    vectors_file, rows_file = part.files(store)
    with written_beside(vectors_file) as scratch:
        digest = hashlib.sha256()
        with scratch.open("wb") as stream:
            npy.write_array_header_1_0(
                _Hashing(stream, digest), {"descr": np.dtype(dtype).str, "fortran_order": False,
                                           "shape": (rows.num_rows, width)}
            )  # fmt: skip
            for block in blocks:
                for start in range(0, len(block), _WRITTEN):
                    data = np.ascontiguousarray(block[start : start + _WRITTEN], dtype=dtype)
                    stream.write(data.data)
                    digest.update(data.data)
        vectors_bytes = scratch.stat().st_size
    with written_beside(rows_file) as scratch:
        pq.write_table(rows, scratch, compression="zstd", write_page_checksum=True)
        rows_bytes, rows_hash = scratch.stat().st_size, sha256_of(scratch)
    return Part(name, rows.num_rows, (vectors_bytes, rows_bytes), (digest.hexdigest(), rows_hash))


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, stream: BinaryIO, digest: Any) -> None:
        self.stream = stream
        self.digest = digest

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.stream.write(data)


def open_vectors(store: Path, part: Part, width: int) -> NDArray[np.floating]:
    """The embeddings of a part, memory-mapped.

    Raises:
        FileNotFoundError: the file is gone.
        IndexDamagedError: it is cut, or no such matrix.
    """
    path = part.files(store)[0]
    size = path.stat().st_size
    if size != part.sizes[0]:
        raise IndexDamagedError(f"{path} has {size} of {part.sizes[0]} bytes")
    try:
        vectors: NDArray[np.floating] = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise IndexDamagedError(f"{path} is no matrix ({error})") from None
    if vectors.shape != (part.rows, width):
        raise IndexDamagedError(f"{path} holds {vectors.shape} instead of {(part.rows, width)}")
    return vectors


def read_rows(store: Path, part: Part, columns: list[str] | None = None) -> pa.Table:
    """Rows of a part.

    Raises:
        FileNotFoundError: the file is gone.
        IndexDamagedError: it is cut or cannot be read.
    """
    path = part.files(store)[1]
    size = path.stat().st_size
    if size != part.sizes[1]:
        raise IndexDamagedError(f"{path} has {size} of {part.sizes[1]} bytes")
    try:
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise IndexDamagedError(f"{path} cannot be read ({error})") from None
    if table.num_rows != part.rows:
        raise IndexDamagedError(f"{path} holds {table.num_rows} rows instead of {part.rows}")
    return table


def faults_of(store: Path, part: Part) -> list[str]:
    """What is wrong with a part's files, reading every byte; empty where nothing is."""
    faults = []
    for path, size, digest in zip(part.files(store), part.sizes, part.hashes, strict=True):
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != size:
            faults.append(f"{path} has {path.stat().st_size} of {size} bytes")
        elif sha256_of(path) != digest:
            faults.append(f"{path} was changed: its SHA-256 is another")
    return faults


def salvage(store: Path, part: Part, width: int, dtype: str) -> tuple[pa.Table, NDArray[np.floating]]:
    """Rows of a damaged part whose embedding is whole, told by checksums; none where the rows are lost."""
    vectors_file, rows_file = part.files(store)
    nothing = np.empty((0, width), dtype)
    try:
        if sha256_of(rows_file) != part.hashes[1]:
            raise IndexDamagedError(f"{rows_file} was changed")
        table = pq.read_table(rows_file)
        with vectors_file.open("rb") as stream:
            npy.read_magic(stream)
            npy.read_array_header_1_0(stream)
            data = stream.read()
    except (OSError, ValueError, RuntimeError):
        return pa.table({}), nothing
    row_bytes = width * np.dtype(dtype).itemsize
    whole = min(len(data) // row_bytes, part.rows)
    vectors = np.frombuffer(data, dtype, whole * width).reshape(whole, width)
    good = np.flatnonzero(checksums(vectors) == table.column("crc32").to_numpy()[:whole])
    return table.take(pa.array(good)), vectors[good]
