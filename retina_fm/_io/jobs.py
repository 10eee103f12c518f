"""Many pieces of work: one after the other or in parallel, in order, and with a bar."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from retina_fm._io.progress import progress_bar
from retina_fm.errors import ConfigError

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def check_workers(workers: int | None) -> None:
    """Raises ConfigError where ``workers`` is no number of processes."""
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers cannot work. Give 1 or more, or leave it out for one a core.")


def work_through(
    work: Callable[[_Job], _Result],
    jobs: Sequence[_Job],
    *,
    workers: int | None,
    note: str,
    unit: str,
    progress: bool | None,
) -> Iterator[tuple[_Job, _Result]]:
    """Each job with its result, in the order of the jobs.

    Args:
        work: a function of a module; it returns what failed rather than raise it, so that the rest goes on.
        jobs: picklable.
        workers: processes; one a core when None, in this process when 1.
        note: what is going on, shown before the bar.
        unit: one job in a word.
        progress: show a bar; only on a terminal when None.
    """
    count = min(workers or os.cpu_count() or 1, max(1, len(jobs)))
    with progress_bar(progress, len(jobs), note, unit=unit, few=0) as bar:
        for job, result in zip(jobs, _results(work, jobs, count), strict=True):
            bar.update()
            yield job, result


def _results(work: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int) -> Iterator[_Result]:
    if workers == 1:
        yield from map(work, jobs)
        return
    with start_workers(workers) as executor:
        yield from executor.map(work, jobs)


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
