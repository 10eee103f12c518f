"""Many pieces of work: one after the other or in parallel, in order, and with a bar."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import TypeVar

from retina_fm._io.processes import may_start_workers, start_workers
from retina_fm._io.progress import progress_bar
from retina_fm.errors import ConfigError, WorkerError

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
        workers: processes; one a core when None, in this process when 1, or where it may have no children.
        note: what is going on, shown before the bar.
        unit: one job in a word.
        progress: show a bar; only on a terminal when None.

    Raises:
        ConfigError: ``workers`` is no number of processes.
        WorkerError: a job ended its process, and did so again when it ran alone.
    """
    check_workers(workers)
    count = min(workers or os.cpu_count() or 1, max(1, len(jobs))) if may_start_workers() else 1
    with progress_bar(progress, len(jobs), note, unit=unit, few=0) as bar:
        for job, result in zip(jobs, _results(work, jobs, count, note), strict=True):
            bar.update()
            yield job, result


def _results(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int, note: str
) -> Iterator[_Result]:
    if workers == 1:
        yield from map(work, jobs)
        return
    left = deque(jobs)
    while left:  # once a pool that broke: each settles at least one job, so this ends
        with start_workers(workers) as executor:
            try:
                for result in _submitted(executor, work, left):
                    left.popleft()
                    yield result
            except BrokenExecutor:
                executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]
        if left:
            yield _alone(work, left[0], note)
            left.popleft()


def _submitted(
    executor: Executor, work: Callable[[_Job], _Result], jobs: Iterable[_Job]
) -> Iterator[_Result]:
    futures: list[Future[_Result]] = [executor.submit(work, job) for job in jobs]
    for future in futures:
        yield future.result()


def _alone(work: Callable[[_Job], _Result], job: _Job, note: str) -> _Result:
    """A job in a process of its own, to learn whether it was the one that killed the others."""
    with start_workers(1) as single:
        try:
            return single.submit(work, job).result()
        except BrokenExecutor:
            raise WorkerError(
                f"{note}: the process that worked on {job!r:.300} was ended, twice: by the system for want "
                "of memory, by somebody, or by a fault in a codec. What was finished is kept. Run the same "
                "again with fewer workers, or leave that one out."
            ) from None
