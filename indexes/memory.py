"""The same changes as on disk, for an index that lives in memory alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.indexes.rows import COLUMNS, Rows
from retina_fm.indexes.snapshot import Snapshot, columns_of


def extended(snapshot: Snapshot, rows: Rows, removed: NDArray[np.int64], dtype: str) -> Snapshot:
    """A state with some rows more and the rows at some positions removed."""
    first = int(snapshot.ids[-1]) + 1 if snapshot.total else 0
    live = snapshot.live.copy()
    live[removed] = False
    chunks = list(snapshot.chunks)
    table = snapshot.rows
    if len(rows):
        chunks.append(np.ascontiguousarray(rows.embeddings, dtype=dtype))
        table = pa.concat_tables([table, rows.table(first)]).cast(COLUMNS)
    return Snapshot(
        np.concatenate([snapshot.ids, np.arange(first, first + len(rows))]),
        np.concatenate([live, np.ones(len(rows), np.bool_)]),
        chunks,
        columns_of(table),
        snapshot.metadata,
        snapshot.dimension or rows.embeddings.shape[1],
    )


def with_metadata(snapshot: Snapshot, metadata: pa.Table | None) -> Snapshot:
    """The same rows with other metadata."""
    return Snapshot(
        snapshot.ids, snapshot.live, snapshot.chunks, columns_of(snapshot.rows), metadata, snapshot.dimension
    )
