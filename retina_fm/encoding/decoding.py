"""Photos to views in worker processes, in order and in bounded memory, while the model computes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from retina_fm._io.processes import may_start_workers, start_workers
from retina_fm.encoding.work import Decoded, decode
from retina_fm.errors import ConfigError, PictureError, WorkerError
from retina_fm.pictures import Transform, describe

FEW = 16
"""Below so many photos, starting processes costs more than they save."""
_MOST_WORKERS = 16
_STARTS = 5


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(photos: int | None, on_gpu: bool) -> int:
    """Worker processes: one where the CPU itself computes the features, most cores where a GPU does."""
    if photos is not None and photos < FEW:
        return 0
    return min(_MOST_WORKERS, max(1, cores() - 1)) if on_gpu else max(1, min(4, cores() // 4))


def chosen_workers(workers: int | None, photos: int | None, on_gpu: bool) -> int:
    """The worker processes asked for; :func:`default_workers` where none are.

    Raises:
        ConfigError: fewer than none.
    """
    if workers is None:
        return default_workers(photos, on_gpu)
    if workers < 0:
        raise ConfigError(
            f"{workers} workers cannot work. Give 0 to decode in this process, or more, or leave it out."
        )
    return workers


def decoded(
    photos: Iterable[tuple[int, Any]], transform: Transform, *, workers: int, ahead: int
) -> Iterator[Decoded]:
    """Views in the order of the photos, at most ``ahead`` of them waiting.

    Args:
        photos: positions and photos; a generator is drawn from only as far as needed.
        transform: photo to view.
        workers: processes; 0 decodes in a thread of this process, as a daemonic process always does.
        ahead: how many photos may be under way or done before their turn.

    Yields:
        One ``Decoded`` a photo. A photo on which a worker process dies (a fault in a codec, or no memory)
        becomes an error of its own, and the others go on.
    """
    queue: deque[_Waiting] = deque()
    with _Pools(workers, transform) as pools:
        for position, photo in photos:
            queue.append(pools.submit(position, photo))
            if len(queue) > ahead:
                yield _next(queue, pools)
        while queue:
            yield _next(queue, pools)


class _Waiting(NamedTuple):
    """A photo under way, and the pool that decodes it; no pool, in this process."""

    position: int
    photo: Any
    future: Future[Decoded]
    pool: Executor | None


class _Pools:
    """A process pool for what travels cheaply and a thread for what does not."""

    def __init__(self, workers: int, transform: Transform) -> None:
        self.workers = workers if may_start_workers() else 0
        self.transform = transform
        self.processes: Executor | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="retina-fm-decode")

    def submit(self, position: int, photo: Any) -> _Waiting:
        if not self.workers or not _travels(photo):
            future = self.thread.submit(decode, position, photo, self.transform)
            return _Waiting(position, photo, future, None)
        for _ in range(_STARTS):
            if self.processes is None:
                self.processes = start_workers(self.workers)
            try:
                future = self.processes.submit(decode, position, photo, self.transform)
            except BrokenExecutor:  # a worker was killed since the last photo
                self.restart(self.processes)
            else:
                return _Waiting(position, photo, future, self.processes)
        raise WorkerError(
            f"{describe(photo)}: the processes that decode photos are ended as soon as they begin. "
            "Pass workers=0 (--workers 0) to decode in this process."
        )

    def alone(self, position: int, photo: Any) -> Decoded:
        """One photo in a process of its own, to learn whether it was the one that killed the others."""
        with start_workers(1) as single:
            try:
                return single.submit(decode, position, photo, self.transform).result()
            except BrokenExecutor:
                error = PictureError(
                    f"{describe(photo)}: the process that decoded it died (a fault in the codec, or memory "
                    "ran out). Leave it out, or convert it with another program."
                )
                return Decoded(position, None, None, error)

    def restart(self, broken: Executor | None) -> None:
        """Leave a pool that broke; one that was started since goes on."""
        if broken is not None and broken is self.processes:
            broken.shutdown(wait=False)
            self.processes = None

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)
        if self.processes is not None:
            self.processes.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]


def _next(queue: deque[_Waiting], pools: _Pools) -> Decoded:
    position, photo, future, pool = queue.popleft()
    try:
        return future.result()
    except BrokenExecutor:
        pools.restart(pool)
        result = pools.alone(position, photo)
        # what waited in the dead pool goes to a new one; each death settles one photo, so this ends
        for index, waiting in enumerate(queue):
            old = waiting.future
            if waiting.pool is pool and pool is not None and (not old.done() or old.exception() is not None):
                queue[index] = pools.submit(waiting.position, waiting.photo)
        return result


def _travels(photo: Any) -> bool:
    """Whether a photo reaches a worker by name or as its compressed bytes."""
    if isinstance(photo, dict):
        plain = (str, bytes, int, float, tuple, type(None))
        return all(isinstance(value, plain) for value in photo.values())
    return isinstance(photo, str | Path | bytes)
