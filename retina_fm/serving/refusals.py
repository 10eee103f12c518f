"""What the server says instead of an answer: one form for all errors, with nothing of the photo in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from retina_fm.errors import ConfigError, PictureError, PictureTooLargeError
from retina_fm.serving.limits import FullError, Limits


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="A word for programs, such as `body_too_large`.", examples=["no_picture"])
    message: str = Field(description="What is wrong and what to do, for people.")


class RefusedError(Exception):
    """An answer other than the one that was asked for."""

    def __init__(
        self, status: int, error: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.headers = dict(headers or {})


def problem(status: int, error: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as a response."""
    return JSONResponse({"error": error, "message": message}, status, dict(headers or {}))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of refusals."""
    says = {
        400: "The Host header names another machine, and no token is set.",
        401: "The token is missing or wrong.",
        404: "There is no such thing.",
        405: "The path is there, the method is not.",
        408: "The photo arrived too slowly.",
        413: "The body has too many bytes, or the photo too many pixels.",
        422: "The photo cannot be read, or a parameter makes no sense.",
        503: "The server is full or took too long; `Retry-After` says when to ask again.",
    }
    return {status: {"model": Problem, "description": says[status]} for status in statuses}


def add_handlers(app: FastAPI, limits: Limits) -> None:
    """Every error in one form."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> JSONResponse:
        return problem(error.status, error.error, str(error), error.headers)

    @app.exception_handler(FullError)
    async def full(_: Request, error: FullError) -> JSONResponse:
        return problem(
            503,
            "full",
            f"The server is full. Ask again in {error.retry_after} s.",
            {"Retry-After": str(error.retry_after), "Connection": "close"},
        )

    @app.exception_handler(PictureTooLargeError)
    async def too_large(_: Request, __: PictureTooLargeError) -> JSONResponse:
        return problem(413, "too_many_pixels", f"A photo may have {limits.pixels} pixels. Reduce it.")

    @app.exception_handler(PictureError)
    async def unreadable(_: Request, error: PictureError) -> JSONResponse:
        return problem(422, "no_picture", str(error))

    @app.exception_handler(ConfigError)
    async def senseless(_: Request, error: ConfigError) -> JSONResponse:
        return problem(422, "bad_parameter", str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # what came is not repeated: it may say something of a person
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return problem(422, "bad_parameter", told)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        word = {404: "no_such_path", 405: "no_such_method"}.get(error.status_code, "refused")
        return problem(error.status_code, word, str(error.detail), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return problem(400, "gone", "The client went away.")

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return problem(500, "failure", "The server failed on this request; its log says more.")
