"""What one client may ask for, and how much of all clients together is taken in at once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar

from pydantic import Field

from retina_fm.configuration import Configuration

_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]
_LONGEST_WAIT = 60  # seconds that a client is told to stay away, at most


class Limits(Configuration):
    """Bounds on body, pixels, time and concurrency.

    Attributes:
        body_bytes: of a photo as it is sent, at most; a longer one is answered 413.
        pixels: of a photo, at most, looked at before it is decoded; more are answered 413.
        body_seconds: in which a body has to arrive; a slower client is answered 408.
        answer_seconds: from the whole body to the answer; after them 503, and the work is dropped.
        in_flight: photos that are in the server at once, on the way in, waiting or at work; one more is
            answered 503 with ``Retry-After``.
        in_flight_bytes: of all their bodies together.
        connections: open ones, at most; further ones are answered 503.
        neighbours: that one search may ask for.
    """

    section: ClassVar[str] = "limits"

    body_bytes: _Count = 32 * 2**20
    pixels: _Count = 40_000_000
    body_seconds: _Seconds = 30.0
    answer_seconds: _Seconds = 60.0
    in_flight: _Count = 128
    in_flight_bytes: _Count = 512 * 2**20
    connections: _Count = 512
    neighbours: _Count = 100


class FullError(Exception):
    """No room for one more photo; ``retry_after`` says in how many seconds there may be some."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Admission:
    """Counts what is in the server. It is asked before a body is read, so that a full server reads none.

    Attributes:
        inside: photos that are in the server now.
        held: bytes set aside for their bodies.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0
        self.held = 0
        self._pace = 0.0  # seconds from one photo's end to the next, smoothed
        self._last = 0.0

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Room for a photo while the block runs.

        Args:
            size: bytes to set aside.

        Raises:
            FullError: there is none.
        """
        if self.inside >= self.limits.in_flight or self.held + size > self.limits.in_flight_bytes:
            raise FullError(self.retry_after())
        self.inside += 1
        self.held += size
        try:
            yield
        finally:
            self.inside -= 1
            self.held -= size
            self._note()

    def retry_after(self) -> int:
        """Seconds after which what is inside now will be done, by the pace of late."""
        return max(1, min(_LONGEST_WAIT, math.ceil(self._pace * self.inside)))

    def _note(self) -> None:
        now = time.monotonic()
        if self._last and self.inside:  # a pause without work says nothing of the pace
            self._pace += 0.1 * (now - self._last - self._pace)
        self._last = now
