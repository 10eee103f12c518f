"""One writer at a time; the lock is the operating system's, so a kill releases it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retina_fm.errors import OutputError


@contextmanager
def locked(lock: Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock for the length of a block.

    Args:
        lock: the lock's own file; it and its folder are made if need be.
        busy: what to say where another process holds it.
        wait: seconds to wait for another process.

    Raises:
        OutputError: another process holds it, a link lies there, the file cannot be made, or files cannot be
            locked there.
    """
    from filelock import FileLock, Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        if lock.is_symlink():
            raise OutputError(f"{lock} is a link, and nothing is written through links. Remove it.")
        held = FileLock(lock)
        held.acquire(timeout=wait)
    except Timeout:
        raise OutputError(busy) from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(
            f"{lock.parent} cannot be written or locked ({error}). Name a folder on a disk of this machine "
            "that may be written."
        ) from error
    try:
        yield
    finally:
        held.release()
