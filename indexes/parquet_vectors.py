"""Embeddings of a Parquet table, read from its beginning to its end in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retina_fm.errors import ConfigError

_BYTES = 64 << 20
_BATCH = 4096


class ParquetVectors:
    """A matrix that is read when it is sliced; slices in order are read once.

    Attributes:
        file: the table, with a column ``embedding``.
        path: of it, for people.
    """

    def __init__(self, file: pq.ParquetFile, path: Path) -> None:
        self.file = file
        self.path = path
        self.width = next((rows.shape[1] for rows in self._read()), 0)
        self._at = 0
        self._rest: NDArray[np.floating] = np.empty((0, 0), np.float32)
        self._stream: Iterator[NDArray[np.floating]] = iter(())
        self._restart()

    def __len__(self) -> int:
        return int(self.file.metadata.num_rows)

    @property
    def rows_at_once(self) -> int:
        """How many rows make a slice of a reasonable size."""
        return max(1, _BYTES // (4 * max(1, self.width)))

    def __getitem__(self, part: slice) -> NDArray[np.floating]:
        """Rows ``(stop - start, D)``.

        Raises:
            ConfigError: embeddings are missing or of several lengths.
        """
        start, stop, _ = part.indices(len(self))
        if start < self._at:
            self._restart()
        found: list[NDArray[np.floating]] = []
        while self._at < stop:
            if not len(self._rest):
                self._rest = next(self._stream)
            skipped = min(max(0, start - self._at), len(self._rest))
            taken = self._rest[skipped : skipped + stop - max(start, self._at)]
            found.append(taken)
            self._at += skipped + len(taken)
            self._rest = self._rest[skipped + len(taken) :]
        return np.concatenate(found) if found else np.empty((0, self.width), np.float32)

    def _restart(self) -> None:
        self._at = 0
        self._rest = np.empty((0, self.width), np.float32)
        self._stream = self._read()

    def _read(self) -> Iterator[NDArray[np.floating]]:
        width = None
        for batch in self.file.iter_batches(_BATCH, columns=["embedding"]):
            column = batch.column(0)
            values = pc.list_flatten(column).to_numpy(zero_copy_only=False)
            width = len(values) // max(1, len(column)) if width is None else width
            if column.null_count or len(values) != width * len(column) or not _even(column, width):
                raise ConfigError(f"{self.path}: embeddings are missing or of several lengths.")
            yield values.reshape(len(column), width)


def _even(column: pa.Array, width: int) -> bool:
    return pa.types.is_fixed_size_list(column.type) or bool(
        pc.all(pc.equal(pc.list_value_length(column), width)).as_py() in (True, None)
    )
