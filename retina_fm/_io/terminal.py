"""What a terminal shows: names of files may hold escapes, and letters that its encoding lacks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_KEPT = "\n\t"
_CONTROLS = (*range(32), *range(127, 160))
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in _KEPT}
_ESCAPES |= {code: f"\\u{code:04x}" for code in _DIRECTIONS}


def escaped(text: str) -> str:
    """Text without control characters and changes of direction; lines and tabs stay."""
    return text.translate(_ESCAPES)


def shows(text: str, stream: Any) -> bool:
    """Whether a stream can show a text as it is."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return escaped(text) == text


@contextmanager
def safe_output() -> Iterator[None]:
    """Standard output that escapes what a terminal would obey, and what its encoding lacks."""
    before = sys.stdout
    sys.stdout = cast(TextIO, _Escaping(before))
    try:
        yield
    finally:
        sys.stdout = before


class _Escaping:
    """A text stream whose ``write`` cannot fail for a letter."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        text = escaped(text)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return int(self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
