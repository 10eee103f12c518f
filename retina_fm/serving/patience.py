"""Connections that are closed where a request's head does not come."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From a connection to the end of its first head: a client may not sit on a connection and say nothing."""


class Impatient(H11Protocol):
    """uvicorn's HTTP with a limit on the time that the first head of a connection takes.

    Between two requests uvicorn's own limit of five seconds holds.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        cycle: Any = self.cycle  # none before the first head, whatever its type says
        if cycle is None and not self.transport.is_closing():
            self.transport.close()
