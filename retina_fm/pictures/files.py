"""One look at a file: its bytes, and the size and time of these very bytes, in one opening."""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

from retina_fm.errors import NoPicturesError, PictureError

LARGEST = 2 << 30
"""Bytes that a file may have: 24 for each of the most pixels that a picture may have."""
_PIECE = 1 << 24
_FLAGS = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK")
)


class Stamp(NamedTuple):
    """What the bytes were that became a picture.

    Attributes:
        size: how many.
        mtime_ns: when their file was changed last.
        sha256: of them, in hex.
    """

    size: int
    mtime_ns: int
    sha256: str


def stamped(data: bytes, status: os.stat_result) -> Stamp:
    """The stamp of bytes that :func:`read_file` gave."""
    return Stamp(len(data), status.st_mtime_ns, hashlib.sha256(data).hexdigest())


def read_file(path: str | os.PathLike[str], name: str) -> tuple[bytes, os.stat_result]:
    """The bytes of a file and its state as they were read; one that changes meanwhile is read again, once.

    Raises:
        NoPicturesError: there is no such file.
        PictureError: it is no regular file, larger than 2 GiB, changing, or cannot be read.
    """
    try:
        found = spelt_as_on_disk(path)
        for _ in range(2):
            data, before, after = _read_once(found, name)
            if _same(before, after) and len(data) == after.st_size:
                return data, after
    except FileNotFoundError:
        raise NoPicturesError(
            f"{name}: there is no such file. Check the path and the working folder."
        ) from None
    except IsADirectoryError:
        raise PictureError(
            f"{name}: a folder, where one picture is needed. Pass the folder by itself."
        ) from None
    except PictureError:
        raise
    except MemoryError:
        raise PictureError(f"{name}: memory ran out while it was read. Use fewer workers.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"{name}: cannot be read ({reason}). Check its permissions.") from None
    raise PictureError(f"{name}: it changes while it is read. Run again when it is whole.")


def read_stream(stream: Any, name: str) -> bytes:
    """All bytes of a binary file object, from its start where it has one.

    Raises:
        PictureError: it is closed, gives text, or does not end within 2 GiB.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        if hasattr(stream, "seekable") and stream.seekable():
            stream.seek(0)  # the same object read twice is the same picture
        while True:
            piece = stream.read(_PIECE)
            if not isinstance(piece, bytes):
                raise PictureError(f"{name}: the file object gives no bytes; open it in binary mode, 'rb'.")
            size += len(piece)
            if size > LARGEST:
                raise PictureError(_too_large(name, f"over {LARGEST} bytes"))
            pieces.append(piece)
            if not piece:
                return b"".join(pieces)
    except PictureError:
        raise
    except (OSError, ValueError) as error:
        raise PictureError(f"{name}: the file object cannot be read ({error}). Open it anew.") from None


def spelt_as_on_disk(path: str | os.PathLike[str]) -> str:
    """The path, or its other Unicode spelling where only that one is there.

    A name that was typed on one system (``é`` as one letter) may lie on another's disk as two.
    """
    text = os.fspath(path) or os.curdir
    if not text.isascii() and not os.path.lexists(text):
        for form in ("NFC", "NFD"):
            other = unicodedata.normalize(form, text)
            if os.path.lexists(other):
                return other
    return text


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether this is a file with contents; opening a pipe or a device may wait for ever."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _read_once(path: str, name: str) -> tuple[bytes, os.stat_result, os.stat_result]:
    _refuse_odd(os.stat(path), name)  # noqa: PTH116  opening a device may do something to it
    with os.fdopen(os.open(path, _FLAGS), "rb") as stream:
        before = os.fstat(stream.fileno())
        _refuse_odd(before, name)
        return stream.read(), before, os.fstat(stream.fileno())


def _refuse_odd(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(f"{name}: not a regular file. Pass a picture file, or its bytes.")
    if status.st_size > LARGEST:
        raise PictureError(_too_large(name, f"{status.st_size} bytes, the limit is {LARGEST}"))


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _too_large(name: str, what: str) -> str:
    return f"{name}: too large ({what}). Is it a picture? Save the one that is meant by itself."
