"""Tiny files as cameras write them, built by the layouts that oct-converter has: no real one is at hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.pictures.drawn import encoded, fundus

Series = tuple[int, int, int]


def topcon(chunks: Sequence[tuple[bytes, bytes]], kind: bytes = b"FDA") -> bytes:
    """A header, named chunks, and the mark of their end."""
    body = b"".join(bytes([len(name)]) + name + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"FOCT" + kind + struct.pack("<II", 1, 1) + body + b"\0"


def about(eye: int = 1, patient: bytes = b"P-007", day: Sequence[int] = (2021, 3, 4, 5, 6, 7)) -> list[Any]:
    """The chunks of the patient and the capture; an eye is 0 for the right one, 1 for the left."""
    capture = struct.pack("<BBI", eye, 2, 9) + b"\0" * 100 + struct.pack("<6H", *day)
    person = patient.ljust(32, b"\0") + "Jürgen".encode("latin-1").ljust(583, b"\0")
    return [(b"@PATIENT_INFO_02", person), (b"@CAPTURE_INFO_02", capture)]


def fda(picture: np.ndarray | None = None, **said: Any) -> bytes:
    """Topcon's .fda: a packed picture whose channels are blue, green, red."""
    picture = fundus(96, 128) if picture is None else picture
    packed = encoded(picture[..., ::-1], "PNG")
    head = struct.pack("<IIII4sI", picture.shape[1], picture.shape[0], 24, 1, b"\0" * 4, len(packed))
    return topcon([(b"@IMG_FUNDUS", head + packed), *about(**said)])


def fds(picture: np.ndarray | None = None, **said: Any) -> bytes:
    """Topcon's .fds: plain pixels, blue, green, red."""
    picture = fundus(96, 128) if picture is None else picture
    pixels = picture[..., ::-1].tobytes()
    head = struct.pack("<IIIIBI", picture.shape[1], picture.shape[0], 24, 1, 0, len(pixels))
    return topcon([(b"@IMG_OBS", head + pixels), *about(**said)], b"FDS")


def e2e(
    pictures: Sequence[tuple[np.ndarray, str]],
    *,
    patient: bytes = b"H123",
    ticks: int = 0,
    skip: bool = False,
    again: int = 0,
) -> bytes:
    """Heidelberg's .e2e: grey pictures with their eye, ``R`` or ``L``, each a series of its own.

    The directory names the last chunk ``again`` times more.
    """
    parts: list[tuple[Series, int, int, bytes]] = [((5, 0, 0), 9, 0, b"\0" * 102 + patient.ljust(25, b"\0"))]
    for number, (picture, eye) in enumerate(pictures):
        series = (5, 1, number)
        height, width = picture.shape
        image = struct.pack("<IIIII", height * width, 0, 0, height, width) + picture.tobytes()
        parts.append((series, 3, 0, b"\0" * 4 + eye.encode() + b"\0" * 27))
        if ticks:
            parts.append((series, 10004, 0, b"\0" * 88 + struct.pack("<QIf", ticks, 1, 1.0)))
        parts.append((series, 1 << 30, 0, image))
    base = 36 + 52
    place = base + 52 + 44 * (len(parts) + again)
    entries, chunks = b"", b""
    for series, kind, ind, data in parts:
        entries += struct.pack("<IIII", 0, place + len(chunks), len(data), 0)
        entries += struct.pack("<IIIiHHII", *series, 0, 0, 0, kind, 0)
        chunks += b"MDbData".ljust(12, b"\0") + struct.pack("<IIIII", 0, 0, 1, len(data), 0)
        chunks += struct.pack("<IIIiHHII", *series, 0, ind, 0, kind, 0) + data
    entries += entries[-44:] * again
    main = _directory(0, base, 0) + _directory(len(parts) + again, 0, 0)
    whole = b"CMDb".ljust(12, b"\0") + b"\0" * 24 + main + entries + chunks
    return (b"E2EMultipleVolumeFile".ljust(64, b"\0") if skip else b"") + whole


def cube(lit: np.ndarray) -> bytes:
    """Zeiss's .img: a slice for each row of ``lit``, 512 A-scans of 1024 pixels in each, all of one value."""
    return np.repeat(lit[:, :, None], 1024, axis=2).astype(np.uint8).tobytes()


def _directory(entries: int, current: int, prev: int) -> bytes:
    return b"MDbMDir".ljust(12, b"\0") + b"\0" * 24 + struct.pack("<IIII", entries, current, prev, 0)
