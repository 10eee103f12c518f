"""Names of files as text that any file can hold: not every name on a disk is valid UTF-8."""

from __future__ import annotations


def as_text(name: str) -> str:
    r"""A name whose bytes that are no UTF-8 are written as escapes: the byte 255 becomes ``\xff``."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of pairs, which no file system gives
        return name.encode("utf-8", "backslashreplace").decode()
