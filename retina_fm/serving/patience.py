"""Connections that are closed where a client keeps them and asks for nothing, or takes no answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From a connection, or from what follows an answer, to the end of the next head."""
TAKE_SECONDS = 30.0
"""In which a client has to take what was written for it, down to what the system holds for it anyway."""


class Impatient(H11Protocol):
    """uvicorn's HTTP with limits on the time that a client may sit on a connection.

    uvicorn's own limit of five seconds between two requests ends with the first byte that comes. So a head
    that comes byte by byte, or the rest of a body whose request has been answered, is timed here.
    """

    _late: asyncio.TimerHandle | None = None
    _full: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more, once a request is under way."""
        super().data_received(data)
        if self._busy:
            self._stop_waiting()
        elif self._late is None and not self.transport.is_closing():
            self._wait()

    def timeout_keep_alive_handler(self) -> None:
        """Close for want of a further request; what the client does not take is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Begin to wait until the client has taken what was written."""
        super().pause_writing()
        self._full = asyncio.get_running_loop().call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken it."""
        if self._full is not None:
            self._full.cancel()
            self._full = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        if self._full is not None:
            self._full.cancel()
        super().connection_lost(exc)

    @property
    def _busy(self) -> bool:
        """Whether a request is under way."""
        cycle: Any = self.cycle  # none before the first head, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self._busy:
            self.timeout_keep_alive_handler()
