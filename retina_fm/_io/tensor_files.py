"""Safetensors files of ours: what they hold is looked at before memory is taken, and every bit is checked."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.strict_json import parse_json

_WORD = "retina-fm-crc32:"
_SEAL = re.compile(rb'"retina-fm-crc32:([0-9a-f]{8})"')
_KEY = "seal"
_MOST_HEADER = 100_000_000  # as in the format's own reader
SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4,
         "I64": 8, "U64": 8, "F64": 8}  # fmt: skip
"""Number types that are read, by their name in the format, and their bytes."""


class Said(NamedTuple):
    """What a header says.

    Attributes:
        tensors: number type and shape by name.
        notes: further text by name.
    """

    tensors: dict[str, tuple[str, tuple[int, ...]]]
    notes: dict[str, str]


def header_of(data: bytes) -> Said:
    """What a safetensors file says that it holds.

    Args:
        data: of the file; its first bytes suffice.

    Raises:
        ValueError: it is no such file, or holds a number type that is not read.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MOST_HEADER, len(data) - 8):
        raise ValueError("its header is cut, or is none")
    said = parse_json(bytes(data[8 : 8 + length]))
    if not isinstance(said, dict):
        raise ValueError("its header is no object")
    notes = said.pop("__metadata__", {})
    tensors = {}
    for name, about in said.items():
        try:
            kind, shape = str(about["dtype"]), tuple(int(side) for side in about["shape"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"its header says of {name[:80]!r} what no reader understands") from None
        if kind not in SIZES:
            raise ValueError(f"tensor {name[:80]!r} is of type {kind[:20]}, which is not read here")
        tensors[name] = kind, shape
    if not isinstance(notes, dict):
        raise ValueError("its notes are no object")
    return Said(tensors, {str(key): str(value) for key, value in notes.items()})


def save_sealed(tensors: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> bytes:
    """A safetensors file with a CRC-32 of all its bytes in its header."""
    from safetensors.numpy import save

    data = _ordered(save(dict(tensors), {**notes, _KEY: _WORD + "0" * 8}))
    place = _place(data)
    assert place is not None
    data[place[0] : place[1]] = f"{zlib.crc32(data):08x}".encode()
    return bytes(data)


def load_sealed(data: bytes, *, must: bool = False) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and notes of a file, its checksum compared where it has one.

    Args:
        data: the whole file.
        must: refuse a file without a checksum.

    Raises:
        ValueError: it is no safetensors file, or was changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    place = _place(data)
    if place is not None:
        crc = zlib.crc32(memoryview(data)[: place[0]])
        crc = zlib.crc32(b"0" * 8, crc)
        if f"{zlib.crc32(memoryview(data)[place[1] :], crc):08x}".encode() != data[place[0] : place[1]]:
            raise ValueError("its checksum is another: it was changed or damaged")
    elif must:
        raise ValueError("its checksum is missing: it was changed or damaged")
    said = header_of(data)
    try:
        return load(data), said.notes
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from None


def notes_json(notes: Mapping[str, str], name: str) -> Any:
    """A note that is JSON.

    Raises:
        ValueError: it is not there, or is no JSON.
    """
    if name not in notes:
        raise ValueError(f"it has no note {name!r}")
    return parse_json(notes[name])


def compact_json(value: Any) -> str:
    """JSON for a note."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def finite(array: NDArray[Any]) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return not np.issubdtype(array.dtype, np.floating) or bool(np.isfinite(array).all())


def _ordered(data: bytes) -> bytearray:
    """A file with its notes in the order of their names: the format's own writer has them in any."""
    length = int.from_bytes(data[:8], "little")
    said = json.loads(data[8 : 8 + length])
    said = {"__metadata__": dict(sorted(said.pop("__metadata__").items())), **said}
    header = json.dumps(said, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return bytearray(len(header).to_bytes(8, "little") + header + data[8 + length :])


def _place(data: bytes | bytearray) -> tuple[int, int] | None:
    """Where the eight digits of the checksum stand in the header."""
    end = 8 + min(int.from_bytes(data[:8], "little"), _MOST_HEADER)
    found = _SEAL.search(memoryview(data)[:end])
    return None if found is None else found.span(1)
