"""One thread for the model, and a queue before it: what many clients ask at once is computed together."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

logger = logging.getLogger("retina_fm")


class _Job(NamedTuple):
    kind: str
    item: Any
    future: Future[Any]


class Batcher:
    """Runs items of one kind together, the oldest first.

    It never waits for a batch to fill: while one is computed the next gathers, so that a single client is
    answered at once and many share a pass.

    Attributes:
        work: takes a kind and its items, gives a result each.
        size: items of a batch, at most.
        on_batch: is told the kind and size of each batch.
    """

    def __init__(
        self,
        work: Callable[[str, list[Any]], Sequence[Any]],
        size: int,
        on_batch: Callable[[str, int], None] = lambda kind, count: None,  # noqa: ARG005
    ) -> None:
        self.work = work
        self.size = size
        self.on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="retina-fm-model", daemon=True)
        self._thread.start()

    def submit(self, kind: str, item: Any) -> Future[Any]:
        """Queue an item.

        Returns:
            What becomes of it; one that is cancelled before its turn costs nothing.

        Raises:
            RuntimeError: after :meth:`close`.
        """
        job = _Job(kind, item, Future())
        with self._changed:
            if self._closed:
                raise RuntimeError("The model's thread has been closed.")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    @property
    def waiting(self) -> int:
        """Items that no batch has taken yet."""
        return len(self._jobs)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive() and not self._closed

    def close(self, seconds: float = 10.0) -> None:
        """Finish the batch under way, cancel what waits, and end the thread."""
        with self._changed:
            self._closed = True
            while self._jobs:
                self._jobs.popleft().future.cancel()
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while batch := self._next():
            self.on_batch(batch[0].kind, len(batch))
            self._compute(batch)
            del batch  # results are the clients' now

    def _next(self) -> list[_Job]:
        """The next batch; empty once the thread is to end."""
        batch: list[_Job] = []
        while not batch:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                kind = self._jobs[0].kind
                others: deque[_Job] = deque()
                while self._jobs and len(batch) < self.size:
                    job = self._jobs.popleft()
                    if job.kind != kind:
                        others.append(job)
                    elif job.future.set_running_or_notify_cancel():
                        batch.append(job)
                self._jobs.extendleft(reversed(others))
        return batch

    def _compute(self, batch: list[_Job]) -> None:
        try:
            results = self.work(batch[0].kind, [job.item for job in batch])
        except Exception as error:  # whatever it is, the thread goes on for the others
            if len(batch) > 1:  # one photo must not cost its neighbours their answers
                for job in batch:
                    self._compute([job])
                return
            batch[0].future.set_exception(error)
            return
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)
