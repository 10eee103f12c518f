"""The server's life: bound where it may be, stopped with its answers given."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from retina_fm.errors import ConfigError, MissingDependencyError, WorkerError
from retina_fm.serving.limits import Limits
from retina_fm.serving.tokens import refuse_open_door


def serve(
    model: str | None = None,
    *,
    index: str | Path | None = None,
    adapter: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    device: str | None = None,
    dtype: str = "auto",
    batch_size: int | None = None,
    allow_unreliable: bool = False,
    stop_seconds: int = 30,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve until the process is interrupted or terminated, then answer what is under way and return.

    Args:
        model: see :class:`retina_fm.serving.Engine`.
        index: see there.
        adapter: see there.
        host: address to bind to; one that other machines reach needs a token.
        port: 0 takes a free one.
        token: that requests have to bear.
        limits: on what clients may ask.
        workers: processes that decode; chosen for the machine without it.
        device: see :class:`retina_fm.serving.Engine`.
        dtype: see there.
        batch_size: see there.
        allow_unreliable: see there.
        stop_seconds: for answers under way once it is told to stop.
        on_start: is told the address once requests are taken.

    Raises:
        ConfigError: a host that others reach, without a token; a port that is taken.
        MissingDependencyError: FastAPI, uvicorn or prometheus-client is not installed.
        RetinaError: the model, the index or the adapter cannot be had.
        WorkerError: the server could not start.
    """
    refuse_open_door(host, token)
    _refuse_missing()

    from retina_fm.serving.engine import Engine

    engine = Engine(
        model, index=index, adapter=adapter, device=device, dtype=dtype, batch_size=batch_size,
        allow_unreliable=allow_unreliable,
    )  # fmt: skip
    server = make_server(
        engine, host=host, port=port, token=token, limits=limits, workers=workers, stop_seconds=stop_seconds
    )
    with _quiet_signals():
        asyncio.run(_served(server, on_start))


def make_server(
    engine: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    stop_seconds: int = 30,
) -> Any:
    """A ``uvicorn.Server`` around an engine, not yet started; the arguments are those of :func:`serve`."""
    import uvicorn

    from retina_fm.serving.application import create_app
    from retina_fm.serving.patience import Impatient

    limits = limits or Limits()
    config = uvicorn.Config(
        create_app(engine, limits=limits, token=token, workers=workers),
        host=host,
        port=port,
        http=Impatient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would write down what clients ask for
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=stop_seconds,
    )
    return uvicorn.Server(config)


async def _served(server: Any, on_start: Callable[[str], None] | None) -> None:
    host, port = server.config.host, server.config.port
    try:
        socket = server.config.bind_socket()
    except SystemExit:  # uvicorn's way of saying it
        raise ConfigError(f"Port {port} of {host} cannot be bound; name another with --port.") from None
    shown = f"[{host}]" if ":" in host else host

    async def told() -> None:
        while not server.started:
            await asyncio.sleep(0.05)
        if on_start is not None:
            on_start(f"http://{shown}:{socket.getsockname()[1]}/")

    watching = asyncio.create_task(told())
    try:
        await server.serve([socket])
        if not server.started:
            raise WorkerError("The server could not start; its log says why.")
    finally:
        watching.cancel()
        socket.close()


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """Keep the process: uvicorn stops on a signal and then raises it again for whoever handled it before."""

    def nothing(_: int, __: FrameType | None) -> None:
        pass

    try:
        before = {one: signal.signal(one, nothing) for one in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, where signals do not come
        yield
        return
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _refuse_missing() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{error.name} is not installed, and serving needs it: pip install fastapi uvicorn "
            "prometheus-client, or pip install '.[serve]' in a checkout."
        ) from None
