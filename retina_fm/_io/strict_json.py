"""JSON of ours: read strictly, and sealed with a checksum of its own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retina_fm._io.files import canonical_json, write_json

SEAL = "checksum"
"""Field of a JSON object with the CRC-32 of all others."""
_MOST_BYTES = 256 << 20


def parse_json(data: bytes | str, *, nan: bool = False) -> Any:
    """A JSON value without what readers disagree about.

    Args:
        data: in UTF-8.
        nan: take NaN and infinity, as Python writes them.

    Raises:
        ValueError: it is no JSON or no UTF-8, repeats a key, holds NaN or infinity, is nested deeper than
            Python's stack, or has a number of thousands of digits.
    """
    try:
        return json.loads(data, object_pairs_hook=_object, parse_constant=float if nan else _refused)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, *, nan: bool = False) -> Any:
    """A JSON file, its seal checked where it has one and taken off.

    Raises:
        OSError: it cannot be opened.
        ValueError: as :func:`parse_json`, or it is larger than 256 MiB, or was changed since it was sealed.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size} bytes, {_MOST_BYTES} are the most")
    return unsealed(parse_json(path.read_bytes(), nan=nan))


def unsealed(value: Any) -> Any:
    """A value without its seal.

    Raises:
        ValueError: it is not what was sealed.
    """
    if not isinstance(value, dict):
        return value
    if SEAL not in value:
        if any(map(_nearly_seal, value)):
            raise ValueError("the name of its checksum was changed: it is damaged")
        return value
    rest = {key: item for key, item in value.items() if key != SEAL}
    if value[SEAL] != seal_of(rest):
        raise ValueError(
            f"its checksum is another: it was changed or damaged. Who changed it on purpose takes the line "
            f'"{SEAL}" out'
        )
    return rest


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with its seal in the last place."""
    rest = {key: item for key, item in value.items() if key != SEAL}
    return {**rest, SEAL: seal_of(rest)}


def seal_of(value: Any) -> str:
    """CRC-32 of a value as JSON, eight hex digits."""
    plain = json.loads(json.dumps(value))  # keys become text before they are sorted
    return f"{zlib.crc32(canonical_json(plain)):08x}"


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """An object as JSON that a person can read, with its seal, atomically."""
    write_json(path, sealed(value))


def _nearly_seal(key: str) -> bool:
    return len(key) == len(SEAL) and sum(a != b for a, b in zip(key, SEAL, strict=True)) == 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} comes twice")
    return found


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
