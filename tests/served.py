"""A server in a thread, on a free port of this machine, and a client that says all of what came."""

from __future__ import annotations

import http.client
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from retina_fm.serving.running import make_server

if TYPE_CHECKING:
    from retina_fm.serving.engine import Engine


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A running server."""

    def __init__(self, server: Any, port: int) -> None:
        self.server = server
        self.port = port

    def connect(self, seconds: float = 20) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = self.connect()
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)


@contextmanager
def serving(engine: Engine, **settings: Any) -> Iterator[Served]:
    """A server while the block runs."""
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)
    server = make_server(engine, workers=1, stop_seconds=10, **settings)
    socket = server.config.bind_socket()
    thread = threading.Thread(target=lambda: server.run([socket]), daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield Served(server, socket.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        socket.close()
        assert not thread.is_alive()


def dies(*_: object) -> None:
    """What a process does that a photo kills."""
    os._exit(3)
