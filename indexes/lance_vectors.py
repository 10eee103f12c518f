"""Vectors in a LanceDB table by place, at one version, checked against their checksums when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.errors import IndexDamagedError
from retina_fm.indexes.exact import BLOCK_ROWS, Positions
from retina_fm.indexes.lance_places import LancePlace, reading
from retina_fm.indexes.vectors import Vectors, checksums

PLACE = "_place"
_TAKEN = 8192
_READ_BYTES = 64 << 20


def crc_column(column: str) -> str:
    """Name of the column that holds the checksums of another."""
    return f"_crc_{column}"


def vector_array(vectors: NDArray[np.floating]) -> pa.FixedSizeListArray:
    """A matrix as a column of a table."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1]
    )


class LanceVectors(Vectors):
    """A column of vectors.

    Attributes:
        table: LanceDB's table, at a version that does not change.
        column: in it.
        total: rows that belong to the index.
    """

    def __init__(self, table: Any, column: str, total: int, dimension: int, place: LancePlace) -> None:
        super().__init__([], dimension, f"{place}, {column}")
        self.table = table
        self.column = column
        self.total = total
        self._checked_rows = np.zeros(total, np.bool_)

    def __len__(self) -> int:
        return self.total

    def blocks(self, first: int = 0, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """From a place on, as (first place, block) pairs in their stored type."""
        waiting: list[pa.RecordBatch] = []
        start = first
        for batch in self._scanned(first):
            waiting.append(batch)
            if sum(part.num_rows for part in waiting) >= rows:
                block = self._matrix(pa.Table.from_batches(waiting), np.arange(start, self.total))
                yield start, block
                start += len(block)
                waiting = []
        if waiting:
            block = self._matrix(pa.Table.from_batches(waiting), np.arange(start, self.total))
            yield start, block
            start += len(block)
        if start < self.total:
            raise self._damaged(f"it ends at row {start} of {self.total}")

    def take(self, places: Positions) -> NDArray[np.float32]:
        """The vectors at some places, float32, in their order."""
        wanted, back = np.unique(places, return_inverse=True)
        parts = [np.empty((0, self.dimension), np.float32)]
        for start in range(0, len(wanted), _TAKEN):
            some = wanted[start : start + _TAKEN]
            with reading(self.name):
                found = self.table.take_offsets(some.tolist()).select(self._columns).to_arrow()
            parts.append(self._matrix(found.sort_by(PLACE), some).astype(np.float32, copy=False))
        return np.concatenate(parts)[back]

    def whole(self) -> NDArray[np.bool_]:
        """Which rows are as they were written; reads all of them."""
        good, start = [np.empty(0, np.bool_)], 0
        for batch in self._scanned(0):
            matrix, crcs, _ = self._read(pa.Table.from_batches([batch]))
            good.append(checksums(matrix) == crcs)
            start += len(matrix)
        return np.concatenate([*good, np.zeros(self.total - start, np.bool_)])

    @property
    def _columns(self) -> list[str]:
        return [PLACE, crc_column(self.column), self.column]

    def _scanned(self, first: int) -> Iterator[pa.RecordBatch]:
        # a query a piece: LanceDB reads ahead of a slow reader, up to gigabytes
        rows = max(1, _READ_BYTES // (4 * max(1, self.dimension)))
        for start in range(first, self.total, rows):
            count = min(rows, self.total - start)
            with reading(self.name):
                yield from self.table.search().select(self._columns).offset(start).limit(count).to_batches()

    def _read(self, found: pa.Table) -> tuple[NDArray[np.floating], NDArray[np.uint32], Positions]:
        values = found.column(self.column).combine_chunks().flatten().to_numpy(zero_copy_only=False)
        crcs = found.column(crc_column(self.column)).to_numpy()
        return values.reshape(found.num_rows, self.dimension), crcs, found.column(PLACE).to_numpy()

    def _matrix(self, found: pa.Table, places: Positions) -> NDArray[np.floating]:
        """Rows that were read, if they are those of these places (or the first of them), unchanged."""
        matrix, crcs, there = self._read(found)
        places = places[: len(there)]
        if not np.array_equal(there, places):
            raise self._damaged("its rows are not in their places")
        fresh = np.flatnonzero(~self._checked_rows[places])
        bad = np.count_nonzero(checksums(matrix[fresh]) != crcs[fresh])
        if bad:
            raise self._damaged(f"{bad} of {len(matrix)} rows read have another checksum")
        self._checked_rows[places] = True
        return matrix

    def _damaged(self, what: str) -> IndexDamagedError:
        return IndexDamagedError(f"{self.name} was changed: {what}. Build the index again in another store.")
