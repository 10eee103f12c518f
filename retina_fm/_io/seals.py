"""Checksums of files whose format has no place for one: at their end, or in a small file beside them."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import write_output
from retina_fm._io.scratch import hidden_name

_TRAILER = re.compile(rb"retina-fm-crc32:([0-9a-f]{8})\Z")
_LENGTH = 24


def with_trailer(data: bytes) -> bytes:
    """A file's bytes with their CRC-32 at the end, where readers of NumPy's formats do not look."""
    return data + f"retina-fm-crc32:{zlib.crc32(data):08x}".encode()


def without_trailer(data: bytes) -> bytes:
    """What :func:`with_trailer` took; bytes without a checksum are returned as they are.

    Raises:
        ValueError: they were changed.
    """
    found = _TRAILER.search(data[-_LENGTH:])
    if found is None:
        return data
    rest = data[:-_LENGTH]
    if f"{zlib.crc32(rest):08x}".encode() != found[1]:
        raise ValueError("its checksum is another: it was changed or damaged")
    return rest


def write_table_output(path: Path, data: bytes) -> None:
    """Write a CSV file, and its size and checksum into a hidden file beside it.

    Raises:
        OutputError: one of them cannot be written.
    """
    write_output(path, data)
    write_output(_beside(path), _sum_of(data))


def is_as_written(path: Path) -> bool:
    """Whether a CSV file has the bytes that :func:`write_table_output` gave it, by the file beside it."""
    try:
        return _beside(path).read_bytes() == _sum_of(path.read_bytes())
    except OSError:
        return False


def check_table(path: Path, data: bytes) -> None:
    """Compare a CSV file with its checksum, unless somebody wrote it after that.

    Raises:
        ValueError: it has the time that we left it with, and other bytes.
    """
    beside = _beside(path)
    try:
        wanted = beside.read_bytes()
        later = path.stat().st_mtime_ns > beside.stat().st_mtime_ns
    except OSError:
        return
    if not later and wanted != _sum_of(data):
        raise ValueError(
            f"its checksum is another than in {beside.name}: it was damaged. Who changed it on purpose "
            "removes that file"
        )


def _beside(path: Path) -> Path:
    return path.with_name(hidden_name(path.name, ".sum"))


def _sum_of(data: bytes) -> bytes:
    return f"{zlib.crc32(data):08x} {len(data)}\n".encode()


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as an ``.npz`` with a checksum."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type, unused-ignore]
    return with_trailer(stream.getvalue())


def npy_bytes(array: NDArray[Any]) -> bytes:
    """An array as an ``.npy`` with a checksum."""
    stream = io.BytesIO()
    np.save(stream, array)
    return with_trailer(stream.getvalue())


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz``, its checksum compared where it has one.

    Raises:
        OSError: it cannot be read.
        ValueError: it was changed, or is something else.
    """
    data = without_trailer(path.read_bytes())
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zip files break in a dozen ways, each with an exception of its own
        raise ValueError(f"{path} holds no arrays ({type(error).__name__}: {error})") from None


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an ``.npy``, as :func:`read_npz`."""
    data = without_trailer(path.read_bytes())
    try:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except Exception as error:
        raise ValueError(f"{path} holds no array ({type(error).__name__}: {error})") from None
