"""Parquet files of ours carry the CRC-32 of all their bytes, in the file's own metadata.

The format has checksums of pages at most, and none of its footer. The seal also states the file's size: a
table that its owner wrote anew, with a column more, keeps the metadata, has another size, and may pass.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import BinaryIO

KEY = "seal"
_WORD = b"retina-fm-crc32:"
EMPTY = _WORD.decode() + "0" * 8 + ":" + "0" * 16
"""What stands under ``KEY`` in a schema's metadata until the file is whole."""
_SEAL = re.compile(re.escape(_WORD) + rb"([0-9a-f]{8}):([0-9a-f]{16})")
_CHUNK = 4 << 20
_FOOTER = 1 << 20


def seal_parquet(path: Path) -> None:
    """Fill in the seal of a file whose schema has an :data:`EMPTY` one.

    Raises:
        OSError: it cannot be written.
        ValueError: it has none.
    """
    with path.open("rb+") as stream:
        size, place, _ = _found(stream)
        if place < 0:
            raise ValueError(f"{path} has no place for a seal")
        stream.seek(place)
        stream.write(_WORD + b"0" * 8 + f":{size:016x}".encode())
        crc = _crc(stream, place + len(_WORD))
        stream.seek(place + len(_WORD))
        stream.write(f"{crc:08x}".encode())


def check_parquet(path: Path) -> None:
    """Compare a file with its seal; one without, or written anew by somebody else, passes.

    Raises:
        OSError: it cannot be read.
        ValueError: it was changed since it was sealed.
    """
    with path.open("rb") as stream:
        size, place, seal = _found(stream)
        if place < 0 or int(seal[2], 16) != size:
            return
        if f"{_crc(stream, place + len(_WORD)):08x}".encode() != seal[1]:
            raise ValueError("its checksum is another: it was changed or damaged")


def _found(stream: BinaryIO) -> tuple[int, int, tuple[bytes, bytes, bytes]]:
    """Size of a file, and where its seal stands (-1: nowhere) with its parts; metadata come last in it."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 8))
    length = int.from_bytes(stream.read(8)[:4], "little")
    start = max(0, size - max(min(length, size) + 8, _FOOTER))
    stream.seek(start)
    found = list(_SEAL.finditer(stream.read()))
    if not found:
        return size, -1, (b"", b"", b"")
    last = found[-1]
    return size, start + last.start(), (last[0], last[1], last[2])


def _crc(stream: BinaryIO, place: int) -> int:
    """CRC-32 of a file with zeros for the eight digits at ``place``."""
    stream.seek(0)
    crc, at = 0, 0
    while chunk := stream.read(_CHUNK):
        low, high = max(place - at, 0), min(place + 8 - at, len(chunk))
        if low < high:
            chunk = chunk[:low] + b"0" * (high - low) + chunk[high:]
        crc = zlib.crc32(chunk, crc)
        at += len(chunk)
    return crc
