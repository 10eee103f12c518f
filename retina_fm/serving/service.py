"""A request's way: admitted, read within limits, decoded in another process, computed in a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from retina_fm.encoding.decoding import chosen_workers
from retina_fm.encoding.work import Decoded
from retina_fm.serving.batching import Batcher
from retina_fm.serving.engine import Engine
from retina_fm.serving.limits import Admission, Limits
from retina_fm.serving.meters import Meters
from retina_fm.serving.refusals import RefusedError
from retina_fm.serving.workers import DecodingWorkers

_MOST_MAPS = 8  # sets of maps in memory at once: one of 512 pixels a side takes 17 MB

Answer = TypeVar("Answer")


class Service:
    """An engine behind its limits.

    Attributes:
        engine: model, index, adapter.
        limits: of one client and of all.
        admission: what is in the server.
        meters: its figures.
    """

    def __init__(self, engine: Engine, limits: Limits, workers: int | None = None) -> None:
        self.engine = engine
        self.limits = limits
        self.admission = Admission(limits)
        self.meters = Meters()
        count = chosen_workers(workers, None, engine.on_gpu)
        self.decoding = DecodingWorkers(max(1, count), engine.encoder.transform, limits.pixels)
        self._batcher: Batcher | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="retina-fm-reading")
        self._searcher = ThreadPoolExecutor(1, thread_name_prefix="retina-fm-search")
        self._maps = asyncio.Semaphore(_MOST_MAPS)
        self.meters.watch("in_flight", "Photos in the server.", lambda: self.admission.inside)
        self.meters.watch("waiting", "Photos that wait for the model.", lambda: self.waiting)
        self.meters.watch("ready", "1 where photos are taken.", lambda: float(self.ready))

    async def start(self) -> None:
        """Begin the processes and the model's thread."""
        await self.decoding.start()
        self._batcher = Batcher(self.engine.run, self.engine.embedder.batch_size, self.meters.batch)

    async def stop(self) -> None:
        """End what :meth:`start` began; the batch under way is finished."""
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)
        self.decoding.close()
        for pool in (self._reader, self._searcher):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        """Whether photos are taken."""
        return self._batcher is not None and self._batcher.alive

    @property
    def waiting(self) -> int:
        """Photos that wait for the model."""
        return 0 if self._batcher is None else self._batcher.waiting

    async def answer(self, request: Request, work: Callable[[bytes], Awaitable[Answer]]) -> Answer:
        """What ``work`` makes of a request's photo, within all limits.

        Raises:
            FullError: there is no room.
            RefusedError: the body is missing, too long or too slow, or the work takes too long.
        """
        limit = self.limits.body_bytes
        with self.admission.admitted(_declared(request, limit)):
            photo = await _body(request, limit, self.limits.body_seconds)
            return await self._in_time(work(photo))

    async def view(self, photo: bytes) -> Decoded:
        """A photo's view; raises PictureError where it cannot be read."""
        return await self.decoding.view(photo)

    async def compute(self, kind: str, item: Any) -> Any:
        """What the engine gives for an item, in a batch with others."""
        if self._batcher is None or not self._batcher.alive:
            raise RefusedError(503, "stopping", "The server is starting or stopping.", {"Retry-After": "5"})
        return await asyncio.wrap_future(self._batcher.submit(kind, item))

    async def read(self, item: Decoded, kind: str, take: Callable[[Any], Answer]) -> Answer:
        """What ``take`` reads off the maps of a photo, in a thread; few maps are in memory at once."""
        async with self._maps:
            maps = await self.compute(kind, item)
            return await asyncio.get_running_loop().run_in_executor(self._reader, take, maps)

    async def search(self, take: Callable[[], Answer]) -> Answer:
        """A search, in a thread of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._searcher, take)

    async def thumbnail(self, row: int) -> bytes:
        """A picture of the index, small.

        Raises:
            RefusedError: there is no such row.
            PictureError: its file cannot be read.
        """
        path = await self.search(lambda: self.engine.picture_path(row))
        if path is None:
            raise RefusedError(404, "no_such_row", f"The index has no row {row}.")
        with self.admission.admitted(0):
            return await self._in_time(self.decoding.thumbnail(path))

    async def _in_time(self, work: Awaitable[Answer]) -> Answer:
        try:
            return await asyncio.wait_for(work, self.limits.answer_seconds)
        except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
            raise RefusedError(
                503,
                "too_long",
                f"The answer took longer than {self.limits.answer_seconds:g} s. Ask again later.",
                {"Retry-After": str(self.admission.retry_after())},
            ) from None


def _declared(request: Request, limit: int) -> int:
    """Bytes to set aside for a body: as many as it declares, or as many as it may have."""
    text = request.headers.get("content-length")
    if text is None or "transfer-encoding" in request.headers:  # in chunks, whatever length is declared, too
        return limit
    size = int(text) if text.isascii() and text.isdigit() else limit + 1
    if size > limit:
        raise _too_long(limit)
    return size


async def _body(request: Request, limit: int, seconds: float) -> bytes:
    async def read() -> bytes:
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_long(limit)
            parts.append(part)
        return b"".join(parts)

    try:
        body = await asyncio.wait_for(read(), seconds)
    except (TimeoutError, asyncio.TimeoutError):
        raise RefusedError(
            408, "too_slow", f"The photo did not arrive within {seconds:g} s.", {"Connection": "close"}
        ) from None
    if not body:
        raise RefusedError(422, "no_photo", "The body is empty; send the bytes of a photo as the body.")
    return body


def _too_long(limit: int) -> RefusedError:
    return RefusedError(
        413, "body_too_large", f"A photo may have {limit} bytes. Send it smaller.", {"Connection": "close"}
    )
