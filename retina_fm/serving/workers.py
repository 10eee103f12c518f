"""Processes that decode: what a stranger sent may crash or stall one, and it is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from functools import partial
from typing import Any

from retina_fm._io.processes import start_workers
from retina_fm.encoding.work import Decoded
from retina_fm.errors import PictureError
from retina_fm.pictures import Transform
from retina_fm.serving.reading import nothing, thumbnail_within, view_within

THUMBNAIL = 240
"""Pixels of the longer side of a small picture."""


class DecodingWorkers:
    """A few processes of one task each, so that a death is laid to the photo that caused it.

    Args:
        count: of processes.
        transform: photo to view.
        pixels: that a photo may have.
    """

    def __init__(self, count: int, transform: Transform, pixels: int) -> None:
        self.transform = transform
        self.pixels = pixels
        self._slots: asyncio.Queue[_Slot] = asyncio.Queue()
        self._all = [_Slot() for _ in range(count)]
        self._beginning: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin the processes, and wait until they are there."""
        await asyncio.gather(*(self._begin(slot) for slot in self._all))

    async def view(self, photo: bytes) -> Decoded:
        """A photo's view.

        Raises:
            PictureError: it cannot be read, or it ended the process that tried.
            PictureTooLargeError: it has too many pixels.
        """
        found: Decoded = await self._run(partial(view_within, photo, self.transform, self.pixels))
        if found.error is not None:
            raise found.error
        return found

    async def thumbnail(self, path: str) -> bytes:
        """A file's picture as a small JPEG.

        Raises:
            PictureError: it cannot be read.
        """
        found: bytes = await self._run(partial(thumbnail_within, path, THUMBNAIL, self.pixels))
        return found

    def close(self) -> None:
        """End the processes."""
        for slot in self._all:
            slot.end()

    async def _run(self, task: Callable[[], Any]) -> Any:
        slot = await self._slots.get()
        try:
            return await slot.run(task)
        finally:
            if slot.executor is None:  # a new process begins in nobody's time
                beginning = asyncio.create_task(self._begin(slot))
                self._beginning.add(beginning)
                beginning.add_done_callback(self._beginning.discard)
            else:
                self._slots.put_nowait(slot)

    async def _begin(self, slot: _Slot) -> None:
        try:
            await slot.run(nothing)
        finally:
            self._slots.put_nowait(slot)


class _Slot:
    """One process, begun when it is needed."""

    def __init__(self) -> None:
        self.executor: Executor | None = None

    async def run(self, task: Callable[[], Any]) -> Any:
        if self.executor is None:
            self.executor = start_workers(1)
        try:
            return await asyncio.wrap_future(self.executor.submit(task))
        except BrokenExecutor:
            self.end()
            raise PictureError(
                "The process that decoded the photo died (a fault in the codec, or memory ran out). Convert "
                "it with another program."
            ) from None
        except asyncio.CancelledError:  # the client's time is up: what still decodes for it is ended
            self.end()
            raise

    def end(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=False, kill_workers=True)  # type: ignore[call-arg]
            self.executor = None
