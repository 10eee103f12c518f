"""Scratch files and folders that lie beside what they will be: new, ours alone, and swept when we die.

A name is drawn and says that it is ours. Whoever writes holds a lock on it, which the operating system frees
with the process: what has such a name and no lock is of a run that died, and may go.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # another system than POSIX: nothing is locked there, and so nothing is swept
    fcntl = None

_LONGEST = 255  # bytes of a name that file systems take
_MARK = ".rfm-"
_END = ".part"
_OURS = re.compile(r"\..+\.rfm-[0-9a-f]{16}\.part", re.DOTALL)
_swept: set[tuple[int, str]] = set()


def hidden_name(name: str, ending: str) -> str:
    """``.NAMEENDING``, for something that lies beside a file; a long name is cut and made unique again."""
    whole = f".{name}{ending}"
    if len(os.fsencode(whole)) <= _LONGEST:
        return whole
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    room = _LONGEST - len(os.fsencode(f".~{digest}{ending}"))
    start = os.fsencode(name)[:room].decode("utf-8", "ignore")
    return f".{start}~{digest}{ending}"


@contextmanager
def scratch_file(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, removed when the block ends unless it was renamed.

    Raises:
        OSError: it cannot be made.
    """
    sweep(path.parent)
    while True:
        scratch = _drawn(path)
        handle = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
        if _held(handle, scratch):
            break
        os.close(handle)  # swept between making and locking
    if fcntl is None:
        os.close(handle)
        handle = -1  # an open file cannot be renamed there
    try:
        yield scratch
    finally:
        if handle >= 0:
            os.close(handle)
        scratch.unlink(missing_ok=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside ``path``; what has its name when the block ends is removed.

    Raises:
        OSError: it cannot be made.
    """
    sweep(path.parent)
    while True:
        scratch = _drawn(path)
        scratch.mkdir()
        handle = os.open(scratch, os.O_RDONLY) if fcntl is not None else -1
        if handle < 0 or _held(handle, scratch):
            break
        os.close(handle)
    try:
        yield scratch
    finally:
        if handle >= 0:
            os.close(handle)
        shutil.rmtree(scratch, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove scratch of dead runs from a folder, once a process."""
    key = os.getpid(), os.path.abspath(folder)  # noqa: PTH100  Path.absolute keeps dots
    if fcntl is None or key in _swept:
        return
    _swept.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_scratch(entry.name):
                _remove_dead(Path(entry.path))


def is_scratch(name: str) -> bool:
    """Whether a file or folder has a name that only scratch of ours has."""
    return _OURS.fullmatch(name) is not None


def _drawn(path: Path) -> Path:
    return path.with_name(hidden_name(path.name, f"{_MARK}{secrets.token_hex(8)}{_END}"))


def _held(handle: int, path: Path) -> bool:
    """Lock what was just made; False where somebody swept it before."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks: a sweeper gets none either
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _remove_dead(path: Path) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except OSError:
        return  # a link, gone, or not ours to open
    try:
        kind = os.fstat(handle).st_mode
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISREG(kind):
            path.unlink(missing_ok=True)
        elif stat.S_ISDIR(kind):
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass  # somebody writes it, or the file system has no locks
    finally:
        os.close(handle)
