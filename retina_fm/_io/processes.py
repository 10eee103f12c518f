"""Worker processes that need no guard in the caller's script and end with the caller."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Executor


def start_workers(count: int) -> Executor:
    """A pool of processes; the caller shuts it down.

    loky's workers, unlike those of ``multiprocessing``, import nothing of the caller's script, and a
    worker that dies is noticed at once.
    """
    from loky import ProcessPoolExecutor

    executor: Executor = ProcessPoolExecutor(
        max_workers=count, initializer=leave_with_parent, initargs=(os.getpid(),)
    )
    return executor


def leave_with_parent(parent: int) -> None:
    """End this process soon after its parent ended: a killed run must not leave workers behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    if os.name == "posix":  # elsewhere the number of a dead parent stays
        threading.Thread(target=watch, daemon=True).start()
