"""One consistent state of an index: ids, embeddings and rows that do not change any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retina_fm.indexes.exact import BLOCK_ROWS

Positions = NDArray[np.int64]


class Snapshot:
    """Rows in the order of their ids; a position counts them from zero, removed ones included.

    Attributes:
        ids: ``(N,)``, ascending.
        live: ``(N,)``, False where a row was removed.
        chunks: embeddings ``(n, D)`` that together are ``(N, D)``, memory-mapped or in memory.
        metadata: a table with a column ``path``, or None.
        dimension: D.
    """

    def __init__(
        self,
        ids: Positions,
        live: NDArray[np.bool_],
        chunks: list[NDArray[np.floating]],
        rows: Callable[[list[str] | None], pa.Table],
        metadata: pa.Table | None,
        dimension: int,
    ) -> None:
        self.ids = ids
        self.live = live
        self.chunks = chunks
        self.metadata = metadata
        self.dimension = dimension
        self._rows = rows
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return int(self.live.sum())

    @property
    def total(self) -> int:
        """Rows, removed ones included."""
        return len(self.ids)

    @cached_property
    def rows(self) -> pa.Table:
        """Columns of :data:`retina_fm.indexes.rows.COLUMNS`, by position; read when first asked for."""
        return self._rows(None)

    @cached_property
    def paths(self) -> pa.Array:
        """Stored paths by position."""
        return combined(self._rows(["path"]).column("path"))

    def blocks(self, first: int = 0, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """Embeddings from a position on, as (first position, block) pairs in their stored type."""
        for start, chunk in zip(self._starts[:-1].tolist(), self.chunks, strict=True):
            for offset in range(max(0, first - start), len(chunk), rows):
                yield start + offset, chunk[offset : offset + rows]

    def take(self, positions: Positions) -> NDArray[np.float32]:
        """The embeddings at some positions, float32, in their order."""
        found = np.empty((len(positions), self.dimension), np.float32)
        owners = np.searchsorted(self._starts, positions, side="right") - 1
        for owner in np.unique(owners):
            here = np.flatnonzero(owners == owner)
            here = here[np.argsort(positions[here], kind="stable")]  # the disk is read in one direction
            found[here] = self.chunks[owner][positions[here] - self._starts[owner]]
        return found

    def find(self, paths: list[str]) -> Positions:
        """Positions of stored paths among live rows, -1 where there is none."""
        if not paths or not self.total:
            return np.full(len(paths), -1, np.int64)
        places = self.live_positions
        known = self.paths.take(pa.array(places)) if len(places) < self.total else self.paths
        index = pc.index_in(pa.array(paths, pa.string()), value_set=known)
        found = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.where(found >= 0, places[found] if len(places) else -1, -1)

    @cached_property
    def live_positions(self) -> Positions:
        """Positions of the rows that can be found."""
        return np.flatnonzero(self.live)


def combined(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def columns_of(table: pa.Table) -> Callable[[list[str] | None], pa.Table]:
    """A table as what hands out its columns."""
    return lambda names: table.select(names) if names else table


def empty_snapshot(dimension: int = 0) -> Snapshot:
    """A state without rows."""
    from retina_fm.indexes.rows import COLUMNS

    nothing = np.empty(0, np.int64)
    rows = COLUMNS.empty_table()
    return Snapshot(nothing, nothing.astype(np.bool_), [], columns_of(rows), None, dimension)
