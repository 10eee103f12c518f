"""Batches for the training loop: opened from folders, drawn ahead in a thread, exact to resume.

A stream's batch depends on its seed and number alone. Step n of a run takes batches n K to n K + K - 1, where
K is processes times accumulation, so one process that accumulates four batches sees what four processes see.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from retina_fm.errors import ConfigError
from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.training.pretraining.data.sources import open_source
from retina_fm.training.pretraining.data.streams import StreamSettings, seed_of
from retina_fm.training.pretraining.presets import Curriculum, Preset


class SampleStream(Protocol):
    """An endless stream of batches; ``RenderedSamples`` and ``PairSamples`` are two.

    Attributes:
        batch: samples a batch.
        settings: of the batches that follow; set before each by whoever draws them.
    """

    batch: int
    settings: StreamSettings

    def batch_at(self, index: int) -> Samples:
        """Batch number ``index``, whatever came before."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What identifies the stream and its position, as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there; refuses the state of another stream."""
        ...


class Mixture:
    """Streams that take turns, in proportion to their sizes.

    Args:
        streams: of one batch size.
        shares: how often each has its turn, in a cycle of their sum.
    """

    def __init__(self, streams: Sequence[SampleStream], shares: Sequence[int]) -> None:
        self.streams = list(streams)
        self.batch = self.streams[0].batch
        self.shares = [max(1, share) for share in shares]
        total = sum(self.shares)
        # Turn t belongs to whoever is furthest behind its share (smooth weighted round robin).
        credit = [0] * len(self.shares)
        self.turns: list[tuple[int, int]] = []
        taken = [0] * len(self.shares)
        for _ in range(total):
            credit = [c + share for c, share in zip(credit, self.shares, strict=True)]
            chosen = max(range(len(credit)), key=credit.__getitem__)
            credit[chosen] -= total
            self.turns.append((chosen, taken[chosen]))
            taken[chosen] += 1

    def batch_at(self, index: int) -> Samples:
        """Batch number ``index``."""
        cycle, turn = divmod(index, len(self.turns))
        chosen, place = self.turns[turn]
        return self.streams[chosen].batch_at(cycle * self.shares[chosen] + place)

    @property
    def settings(self) -> StreamSettings:
        """Of the batches that follow; every stream takes the same."""
        return self.streams[0].settings

    @settings.setter
    def settings(self, settings: StreamSettings) -> None:
        for stream in self.streams:
            stream.settings = settings

    def state_dict(self) -> dict[str, Any]:
        """States of all streams."""
        return {"shares": self.shares, "streams": [stream.state_dict() for stream in self.streams]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the streams are the same.

        Raises:
            ConfigError: they are not.
        """
        if state.get("shares") != self.shares:
            raise ConfigError("The run was started with other data. Continue with the same --data.")
        for stream, own in zip(self.streams, state["streams"], strict=True):
            stream.load_state_dict(own)


def settings_at(curriculum: Curriculum, step: int, progress: float) -> StreamSettings:
    """What the curriculum asks of a stream at a step: window, lesions, painting, poor photographs."""
    lesions = progress >= curriculum.lesions_from
    return StreamSettings(
        crop=curriculum.crops[step % len(curriculum.crops)],
        lesions=lesions,
        painting=curriculum.painting if lesions else 0.0,
        poor=curriculum.poor,
    )


def open_stream(
    data: Sequence[str | Path], preset: Preset, *, seed: int = 0, device: Any = "cpu", resident: bool = False
) -> SampleStream:
    """A stream over folders of prepared eyes, ``pairs.csv`` files, or folders that hold one.

    Args:
        data: one or more; several take turns by the number of their eyes or sequences.
        preset: gives batch, steps of the video and size.
        seed: of the stream.
        device: where eyes are rendered.
        resident: keep prepared eyes on the device (about 4 MB each at 512 pixels).

    Raises:
        NoPicturesError: a folder holds neither.
        ConfigError: a table of pairs has problems, nothing was given, or a vessel map is to be learnt from
            pairs alone.
    """
    if not data:
        raise ConfigError("There is nothing to train on. Give --data with pairs.csv or prepared eyes.")
    sources = [open_source(place) for place in data]
    streams = [
        source.stream(
            preset,
            seed=seed if number == 0 else seed_of(seed, 5, number),  # a folder given twice is not repeated
            device=device,
            resident=resident,
        )
        for number, source in enumerate(sources)
    ]
    if preset.architecture.vessels and not any(source.has_vessels for source in sources):
        raise ConfigError(
            "Pairs say nothing of where vessels lie. Give prepared eyes beside them, or leave the vessel map "
            "out: --set architecture.vessels=False --set weights.vessels=0."
        )
    if len(streams) == 1:
        return streams[0]
    sizes = [stream.count for stream in streams]
    return Mixture(streams, [round(size / min(sizes)) for size in sizes])


class Feed:
    """Draws batches ahead in one thread and counts how long the loop had to wait.

    Args:
        stream: where batches come from.
        number: gives the number of the batch for a step and accumulation step.
        settings: gives what the curriculum asks at a step.
        accumulation: batches a step.
        ahead: batches drawn before they are needed; 0 draws in the caller's thread.
    """

    def __init__(
        self,
        stream: SampleStream,
        number: Callable[[int, int], int],
        settings: Callable[[int], StreamSettings],
        *,
        accumulation: int = 1,
        first: int = 0,
        ahead: int = 2,
    ) -> None:
        self.stream, self.number, self.settings = stream, number, settings
        self.accumulation, self.ahead = accumulation, ahead
        self.waited = 0.0
        self.drawing = 0.0
        self._next = first * accumulation
        self._queue: deque[Future[Samples]] = deque()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="samples") if ahead else None

    def _draw(self, place: int) -> Samples:
        began = time.perf_counter()
        step, part = divmod(place, self.accumulation)
        with self._lock:
            self.stream.settings = self.settings(step)
            samples = self.stream.batch_at(self.number(step, part))
        self.drawing += time.perf_counter() - began
        return samples

    def take(self) -> Samples:
        """The next batch."""
        began = time.perf_counter()
        if self._pool is None:
            samples = self._draw(self._next)
            self._next += 1
        else:
            while len(self._queue) < self.ahead:
                self._queue.append(self._pool.submit(self._draw, self._next))
                self._next += 1
            samples = self._queue.popleft().result()
            self._queue.append(self._pool.submit(self._draw, self._next))
            self._next += 1
        self.waited += time.perf_counter() - began
        return samples

    def close(self) -> None:
        """Stop drawing ahead."""
        if self._pool is not None:
            for future in self._queue:
                future.cancel()
            self._pool.shutdown(wait=True)
