"""Files that Pillow reads and does not write: plain TIFF with any tags, PNG of 16 bits a channel."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def tiff(*pages: np.ndarray, planes: bool = False, tags: tuple[dict[int, int], ...] = ({},)) -> bytes:
    """Uncompressed little-endian TIFF of pages ``(H, W)`` or ``(H, W, 3)`` in ``uint8`` or ``uint16``.

    Args:
        pages: the pictures.
        planes: one channel after the other instead of interleaved.
        tags: for each page numbers that replace or join its own; the last one's serve the pages after it.
    """
    out = bytearray(b"II*\0\0\0\0\0")
    link = 4
    for number, page in enumerate(pages):
        data = np.moveaxis(page, -1, 0) if planes else page
        parts = [plane.tobytes() for plane in data] if planes else [data.tobytes()]
        offsets = []
        for part in parts:
            offsets.append(len(out))
            out += part + b"\0" * (len(part) % 2)
        channels = page.shape[2] if page.ndim == 3 else 1
        values: dict[int, tuple[int, ...]] = {
            256: (page.shape[1],), 257: (page.shape[0],), 258: (8 * page.itemsize,) * channels, 259: (1,),
            262: (2 if channels == 3 else 1,), 273: tuple(offsets), 277: (channels,), 278: (page.shape[0],),
            279: tuple(map(len, parts)), 284: (2 if planes else 1,),
        }  # fmt: skip
        values.update({tag: (value,) for tag, value in tags[min(number, len(tags) - 1)].items()})
        fields = b""
        for tag, numbers in sorted(values.items()):
            packed = struct.pack(f"<{len(numbers)}I", *numbers)
            if len(packed) > 4:
                offset = len(out)
                out += packed
                packed = struct.pack("<I", offset)
            fields += struct.pack("<HHI", tag, 4, len(numbers)) + packed
        out[link : link + 4] = struct.pack("<I", len(out))
        out += struct.pack("<H", len(values)) + fields
        link = len(out)
        out += b"\0\0\0\0"
    return bytes(out)


def png(values: np.ndarray, width: int | None = None, height: int | None = None) -> bytes:
    """PNG of ``uint16 (H, W[, 2|3|4])``, whose header may claim another size."""
    colours = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2] if values.ndim == 3 else 1]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(
        ">IIBBBBB", width or values.shape[1], height or values.shape[0], 16, colours, 0, 0, 0
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(lines))
        + _chunk(b"IEND", b"")
    )


def many_scans(progressive: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan is there ``times`` times over."""
    start, end = progressive.rindex(b"\xff\xda"), progressive.rindex(b"\xff\xd9")
    return progressive[:start] + progressive[start:end] * times + progressive[end:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
