"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retina_fm._io.scratch import scratch_file
from retina_fm.errors import OutputError, RetinaError

_CHUNK = 1 << 20


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A scratch path in the same folder; when the block ends well, its file takes the place of ``path``.

    The file is flushed to disk before it is renamed, so that a crash leaves the old file or the new one. Its
    name is drawn and must be new, so that nothing that lies there, a link least of all, is written through; a
    link called ``path`` is replaced, what it points at stays. What dead runs left in the folder is swept.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_file(path) as scratch:
        yield scratch
        with scratch.open("rb+") as stream:
            os.fsync(stream.fileno())
        scratch.replace(path)
        sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with written_beside(path) as scratch:
        scratch.write_bytes(data)


def write_output(path: Path, data: bytes) -> None:
    """:func:`write_bytes` where a user named the place.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_bytes(path, data)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error}). Check that the folder is writable and has space."
        ) from error


@contextmanager
def reporting(place: Path) -> Iterator[None]:
    """Turn what the system says of a disk that is full, read-only or gone into an error of ours.

    Raises:
        OutputError: naming the file that the system named, or ``place``.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, RetinaError | BrokenPipeError):
            raise
        raise OutputError(
            f"{error.filename or place} cannot be read or written ({error.strerror or error}); what was "
            "finished is kept. Check that the disk has space and may be written, and run the same again."
        ) from error


def write_synced(path: Path, data: bytes) -> None:
    """Write a file of a folder that is scratch itself: flushed to disk, but in place."""
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write JSON that a person can read, atomically."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any, *, nan: bool = True) -> bytes:
    """JSON that a person can read; NaN, where it may not be, raises a ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, allow_nan=nan)
    return text.encode() + b"\n"


def canonical_json(value: Any) -> bytes:
    """The one spelling of a value that hashes are taken of: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make names that were just renamed in a folder last, where the system can."""
    if os.name != "posix":
        return  # folders cannot be opened elsewhere
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
