"""Merging of small parts, and the real deletion of removed rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.indexes.parts import Part, open_vectors, read_rows
from retina_fm.indexes.store import MANY_SMALL, PART_ROWS, SMALL_PART, Writer

DEAD_SHARE = 0.25


def compact_if_due(writer: Writer, removed: NDArray[np.int64]) -> bool:
    """Merge the last parts when many are small; rewrite everything when a quarter of the rows is removed."""
    parts = writer.manifest.parts
    total = sum(part.rows for part in parts)
    if total and len(removed) > DEAD_SHARE * total:
        compact(writer, removed)
        return True
    small = 0
    for part in reversed(parts):
        if part.rows > SMALL_PART:
            break
        small += 1
    if small <= MANY_SMALL:
        return False
    # only neighbours are merged, so that rows stay in the order of their ids
    merged = _merged(writer, list(parts[-small:]), np.empty(0, np.int64))
    writer.replace_parts((*parts[:-small], *merged), removed)
    writer.commit()
    return True


def compact(writer: Writer, removed: NDArray[np.int64]) -> None:
    """Rewrite all parts without the removed rows; ids stay."""
    writer.replace_parts(tuple(_merged(writer, list(writer.manifest.parts), removed)), np.empty(0, np.int64))
    writer.commit()


def _merged(writer: Writer, parts: list[Part], removed: NDArray[np.int64]) -> list[Part]:
    """New parts of at most ``PART_ROWS`` rows with what is left of some parts."""
    store, width = writer.store, writer.manifest.dimension
    tables: list[pa.Table] = []
    blocks: list[NDArray[np.floating]] = []
    written: list[Part] = []

    def flush() -> None:
        if tables:
            table = pa.concat_tables(tables)
            written.append(writer.new_part(table.column("id")[0].as_py(), table, blocks))
            tables.clear()
            blocks.clear()

    for part in parts:
        table, vectors = read_rows(store, part), open_vectors(store, part, width)
        kept = np.flatnonzero(~np.isin(table.column("id").to_numpy(), removed))
        if not len(kept):
            continue
        if sum(len(block) for block in blocks) + len(kept) > PART_ROWS:
            flush()
        tables.append(table.take(pa.array(kept)))
        blocks.append(vectors if len(kept) == part.rows else vectors[kept])
    flush()
    return written
