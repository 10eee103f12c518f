"""The application: paths, door, errors and page around one service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

import retina_fm
from retina_fm.serving.door import Door
from retina_fm.serving.endpoints import health, routes
from retina_fm.serving.engine import Engine
from retina_fm.serving.limits import Limits
from retina_fm.serving.page import page, policy
from retina_fm.serving.refusals import add_handlers
from retina_fm.serving.service import Service

_SAYS = """Embeddings, search, maps and measurements of retinal photographs, one photo a request.

The body of a request is the photo itself, no form. It is held in memory until it is answered, and nowhere
else: not on a disk, not in a log. Every error has the form of `Problem`. A full server answers 503, and
`Retry-After` says when to ask again.

Research use. Not a medical device; not for decisions about patients."""


def create_app(
    engine: Engine, *, limits: Limits | None = None, token: str | None = None, workers: int | None = None
) -> FastAPI:
    """An ASGI application, for :func:`retina_fm.serving.serve` or a server of one's own.

    Args:
        engine: model, index, adapter.
        limits: the defaults without it.
        token: that requests have to bear; without it only requests to a local name are answered, and the
            caller has to bind to loopback.
        workers: processes that decode; chosen for the machine without it.
    """
    service = Service(engine, limits or Limits(), workers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="retina_fm",
        version=retina_fm.__version__,
        description=_SAYS,
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
    )
    add_handlers(app, service.limits)
    app.include_router(routes(service))
    app.include_router(health(service))
    html = page(engine.encoder.name, token is not None)
    headers = {"Content-Security-Policy": policy(html)}

    @app.get("/", include_in_schema=False)
    async def shown() -> HTMLResponse:
        return HTMLResponse(html, headers=headers)

    app.add_middleware(Door, token=token, meters=service.meters)
    return app
