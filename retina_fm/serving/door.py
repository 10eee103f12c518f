"""What every request passes: the name it asked for, its token, its figures, and headers of the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retina_fm.serving.meters import Meters
from retina_fm.serving.refusals import problem
from retina_fm.serving.tokens import is_local_name, is_right

logger = logging.getLogger("retina_fm")

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""What is answered without a token: nothing of a photo, of the index, or of who asks."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Door:
    """Lets a request in or answers it, and counts it.

    Args:
        app: what is behind.
        token: that requests have to bear; None lets in whoever asks this machine by its local names.
        meters: of the server.
    """

    def __init__(self, app: ASGIApp, token: str | None, meters: Meters) -> None:
        self.app = app
        self.token = token
        self.meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, told = time.monotonic(), 500

        async def noted(message: Message) -> None:
            nonlocal told
            if message["type"] == "http.response.start":
                told = int(message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._refusal(scope) or self.app)(scope, receive, noted)
        finally:
            self._count(scope, told, time.monotonic() - began)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if self.token is None:
            if is_local_name(headers.get("host", "")):
                return None
            return problem(
                400,
                "not_this_host",
                "Without a token only localhost is served; the Host header says otherwise.",
            )
        if scope["path"] in OPEN_PATHS or is_right(self.token, headers.get("authorization")):
            return None
        return problem(
            401, "no_token", "Send the header 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"}
        )

    def _count(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        # the path as it is declared: what a client wrote there stays out of figures and logs
        route = getattr(scope.get("route"), "path", "other")
        self.meters.answered(route, status, seconds)
        logger.info(
            "%s %s %d %.0f ms", scope["method"] if route != "other" else "-", route, status, seconds * 1e3
        )
