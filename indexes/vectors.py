"""A column of vectors as readers see it: in memory or memory-mapped, each row checked before it is used."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import IndexDamagedError
from retina_fm.indexes.exact import BLOCK_ROWS, Positions

Chunk = tuple[NDArray[np.floating], NDArray[np.uint32] | None]
"""A stretch of vectors, and the checksum of each where they lie in a file."""


class Vectors:
    """A column of vectors in stretches, in memory or memory-mapped; rows of files are checked before use."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        dimension: int,
        name: str,
    ) -> None:
        self.dimension = dimension
        self.name = name
        self.chunks = chunks
        self._starts = np.cumsum([0, *(len(matrix) for matrix, _ in chunks)])
        self._good = [None if crcs is None else np.zeros(len(crcs), np.bool_) for _, crcs in chunks]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def crcs(self) -> NDArray[np.uint32]:
        """CRC-32 of each row's bytes."""
        parts = [checksums(matrix) if crcs is None else crcs for matrix, crcs in self.chunks]
        return np.concatenate([np.empty(0, np.uint32), *parts])

    def blocks(self, first: int = 0, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """From a place on, as (first place, block) pairs in their stored type."""
        for number, start in enumerate(self._starts[:-1].tolist()):
            matrix = self.chunks[number][0]
            for offset in range(max(0, first - start), len(matrix), rows):
                yield start + offset, self._checked(number, slice(offset, offset + rows))

    def take(self, places: Positions) -> NDArray[np.float32]:
        """The vectors at some places, float32, in their order."""
        found = np.empty((len(places), self.dimension), np.float32)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        for owner in np.unique(owners).tolist():
            here = np.flatnonzero(owners == owner)
            here = here[np.argsort(places[here], kind="stable")]  # the disk is read in one direction
            found[here] = self._checked(owner, places[here] - self._starts[owner])
        return found

    def whole(self) -> NDArray[np.bool_]:
        """Which rows are as they were written; reads all of them."""
        parts = [
            np.ones(len(matrix), np.bool_) if crcs is None else checksums(matrix) == crcs
            for matrix, crcs in self.chunks
        ]
        return np.concatenate([np.empty(0, np.bool_), *parts])

    def trusted(self, count: int) -> None:
        """Take the last rows as checked: this process wrote them."""
        if self._good and self._good[-1] is not None:
            self._good[-1][len(self._good[-1]) - count :] = True

    def _checked(self, number: int, which: slice | Positions) -> NDArray[np.floating]:
        matrix, crcs = self.chunks[number]
        good = self._good[number]
        rows: NDArray[np.floating] = matrix[which]
        if crcs is None or good is None or good[which].all():
            return rows
        bad = np.flatnonzero(checksums(rows) != crcs[which])
        if len(bad):
            raise IndexDamagedError(
                f"{self.name} was changed: {len(bad)} of {len(rows)} rows read have another checksum. "
                "'retina-fm index --rebuild' keeps the others; the photos of these are encoded again when "
                "the index is next brought up to date."
            )
        good[which] = True
        return rows


def checksums(vectors: NDArray[np.floating]) -> NDArray[np.uint32]:
    """CRC-32 of each row's bytes."""
    rows = np.ascontiguousarray(vectors)
    if not rows.size:
        return np.zeros(len(rows), np.uint32)
    data, width = rows.data.cast("B"), rows[0].nbytes
    crc32 = zlib.crc32
    return np.fromiter((crc32(data[i : i + width]) for i in range(0, len(data), width)), np.uint32, len(rows))
