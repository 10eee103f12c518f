"""A column of vectors as its one writer sees it: the file, how far it is named, what was appended since."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sync_folder
from retina_fm.indexes import database
from retina_fm.indexes.vectors import Chunk, Vectors, checksums


class Column:
    """Vectors of one space.

    Attributes:
        name: of the space.
        folder: of the index, or None in memory.
        file: its file, empty before there is one.
        total: vectors that are there.
        appended: of these, by this writer at the end.
        chunks: of a column in memory.
    """

    def __init__(self, name: str, folder: Path | None, file: str, total: int, chunks: list[Chunk]) -> None:
        self.name = name
        self.folder = folder
        self.file = file
        self.total = total
        self.appended = 0
        self.chunks = chunks
        self._stream: BinaryIO | None = None

    def append(self, data: NDArray[np.floating]) -> NDArray[np.uint32]:
        """Add vectors at the end.

        Returns:
            Their checksums.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        crcs = np.zeros(len(data), np.uint32)
        if self.folder is None:
            self.chunks.append((data, None))
        else:
            if self._stream is None:
                self._stream = self._opened(data.shape[1] * data.itemsize)
            self._stream.write(data.tobytes())
            crcs = checksums(data)
        self.total += len(data)
        self.appended += len(data)
        return crcs

    def begin(self, file: str) -> None:
        """Be an empty file of that name; it must not be there yet.

        Raises:
            OSError: it is, or cannot be made.
        """
        self.close()
        self.file, self.total, self.appended, self.chunks = file, 0, 0, []
        if self.folder is not None:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
            self._stream = os.fdopen(os.open(self.folder / file, flags, 0o666), "r+b")
            sync_folder(self.folder)

    def flush(self) -> None:
        """Onto the disk."""
        if self._stream is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None

    def in_memory(self, dimension: int) -> Vectors:
        """What a column in memory holds."""
        return Vectors(self.chunks, dimension, "memory")

    def _opened(self, row_bytes: int) -> BinaryIO:
        """The file at its named end; what a killed writer left behind it is cut off."""
        assert self.folder is not None
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        stream = os.fdopen(os.open(self.folder / database.own_name(self.file), flags), "r+b")
        stream.truncate(self.total * row_bytes)
        stream.seek(self.total * row_bytes)
        return stream
