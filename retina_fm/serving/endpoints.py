"""The paths of the server: what each takes, asks of the service, and gives."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response, Security
from fastapi.security import HTTPBearer
from PIL import Image

import retina_fm
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, PictureError
from retina_fm.indexes.state import EMBEDDING
from retina_fm.measuring.columns import COLUMNS
from retina_fm.serving.answers import (
    About,
    Embedding,
    Found,
    Hits,
    Measurements,
    Prediction,
    Report,
    State,
)
from retina_fm.serving.engine import EMBED, MAPS, PREDICT, SIGN, Engine, Maps
from retina_fm.serving.refusals import RefusedError, documented
from retina_fm.serving.service import Service
from retina_fm.serving.views import overlay_url, view_url

PHOTO: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one photo: JPEG, PNG, TIFF, WebP, or DICOM where pydicom is installed. "
        "No form: `curl --data-binary @photo.jpg`. It is held in memory until it is answered, nowhere else.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_OF_A_PHOTO = documented(400, 401, 408, 413, 422, 503)
_PNG: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Grey PNG of the photo's own size.",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JPEG, 240 pixels the longer side.",
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_K = "How many; fewer come where the index is smaller."
_WHERE = "Only pictures with this metadata: `eye=left`, `age>60 and label contains 'D'`."
_EYE = "`left` or `right`, where it is known; otherwise the picture tells it."


def routes(service: Service) -> APIRouter:
    """All that this service can do; what its model, index or adapter does not allow is not there."""
    router = APIRouter(prefix="/v1", dependencies=[Security(HTTPBearer(auto_error=False))])
    _add_about(router, service.engine)
    _add_encode(router, service)
    if service.engine.index is not None:
        _add_search(router, service)
    if service.engine.measures:
        _add_maps(router, service)
    if service.engine.adapter is not None:
        _add_predict(router, service)
    _add_report(router, service)
    return router


def health(service: Service) -> APIRouter:
    """Liveness, readiness and figures."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Whether the process answers", responses=documented(400))
    async def alive() -> State:
        return State(status="alive")

    @router.get("/readyz", summary="Whether photos are taken", responses=documented(400, 503))
    async def ready() -> State:
        if not service.ready:
            raise RefusedError(503, "not_ready", "The model is not ready.", {"Retry-After": "5"})
        return State(status="ready")

    @router.get(
        "/metrics",
        summary="Figures for Prometheus",
        dependencies=[Security(HTTPBearer(auto_error=False))],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **documented(400, 401)},
    )
    async def metrics() -> Response:
        return Response(service.meters.text(), media_type="text/plain; version=0.0.4")

    return router


def _add_about(router: APIRouter, engine: Engine) -> None:
    encoder = engine.encoder
    told = About(
        version=retina_fm.__version__,
        model=encoder.name,
        weights_sha256=encoder.weights_sha256,
        transform_hash=encoder.transform.hash,
        dimension=encoder.num_features,
        precision=str(engine.embedder.precision),
        licence=encoder.card.licence,
        intended_use=encoder.card.intended_use,
        pictures=None if engine.index is None else len(engine.index),
        spaces=list(engine.spaces),
        targets=[name for name, why in engine.targets.items() if why is None or engine.allow_unreliable],
        measures=engine.measures,
        task=None if engine.adapter is None else engine.adapter.task,
    )

    @router.get("/about", summary="What is served", responses=documented(400, 401))
    async def about() -> About:
        return told


def _add_encode(router: APIRouter, service: Service) -> None:
    encoder = service.engine.encoder

    @router.post("/encode", summary="A photo to its embedding", responses=_OF_A_PHOTO, openapi_extra=PHOTO)
    async def encode(request: Request) -> Embedding:
        async def work(photo: bytes) -> Embedding:
            item = await service.view(photo)
            row = await service.compute(EMBED, item)
            assert item.geometry is not None
            return Embedding(
                embedding=row.tolist(),
                model=encoder.name,
                weights_sha256=encoder.weights_sha256,
                transform_hash=encoder.transform.hash,
                width=item.geometry.width,
                height=item.geometry.height,
            )

        return await service.answer(request, work)


def _add_search(router: APIRouter, service: Service) -> None:
    engine, most = service.engine, service.limits.neighbours
    spaces = list(engine.spaces)

    @router.post(
        "/search",
        summary="The pictures of the index nearest to a photo",
        responses=_OF_A_PHOTO,
        openapi_extra=PHOTO,
    )
    async def search(
        request: Request,
        k: int = Query(min(10, most), ge=1, le=most, description=_K),
        where: str | None = Query(None, max_length=500, description=_WHERE),
        space: str = Query(
            EMBEDDING,
            description="Compare embeddings, the pattern of vessels (the same eye), or both.",
            json_schema_extra={"enum": spaces},
        ),
    ) -> Hits:
        if space not in spaces:
            raise ConfigError(f"space: this index can compare {', '.join(spaces)}.")

        async def work(photo: bytes) -> Hits:
            item = await service.view(photo)
            return Hits(hits=await _nearest(service, item, k, where, space))

        return await service.answer(request, work)

    @router.get(
        "/pictures/{row}",
        summary="A picture of the index, small",
        response_class=Response,
        responses={**_JPEG, **documented(400, 401, 404, 413, 422, 503)},
    )
    async def picture(row: int = Path(ge=0, lt=2**53, description="As a search gave it.")) -> Response:
        try:
            return Response(await service.thumbnail(row), media_type="image/jpeg")
        except PictureError:  # its message would name a path of this machine
            raise RefusedError(404, "no_picture", f"The file of row {row} cannot be read any more.") from None


def _add_maps(router: APIRouter, service: Service) -> None:
    engine = service.engine
    targets = list(engine.targets)

    @router.post(
        "/segment",
        summary="A map of vessels, disc or lesions",
        response_class=Response,
        responses={**_PNG, **_OF_A_PHOTO},
        openapi_extra=PHOTO,
    )
    async def segment(
        request: Request,
        target: str = Query("vessels", description="What to map.", json_schema_extra={"enum": targets}),
        probability: bool = Query(False, description="Probabilities times 255 rather than 0 and 255."),
    ) -> Response:
        engine.refuse(target)

        async def work(photo: bytes) -> Response:
            item = await service.view(photo)
            png = await service.read(
                item, MAPS, lambda maps: _png(engine.mask(item, maps, target, probability))
            )
            return Response(png, media_type="image/png")

        return await service.answer(request, work)

    @router.post(
        "/measure",
        summary="Quality, eye, disc and fovea, vessels and lesions as numbers",
        responses=_OF_A_PHOTO,
        openapi_extra=PHOTO,
    )
    async def measure(
        request: Request,
        eye: str | None = Query(None, pattern="^(left|right)$", description=_EYE),
    ) -> Measurements:
        async def work(photo: bytes) -> Measurements:
            item = await service.view(photo)
            return await service.read(item, MAPS, lambda maps: _measurements(engine, item, maps, eye))

        return await service.answer(request, work)


def _add_predict(router: APIRouter, service: Service) -> None:
    if service.engine.adapter.task == "segmentation":
        _add_predict_mask(router, service)
        return
    adapter = service.engine.adapter

    @router.post(
        "/predict",
        summary=f"What the adapter says of a photo ({adapter.task})",
        responses=_OF_A_PHOTO,
        openapi_extra=PHOTO,
    )
    async def predict(request: Request) -> Prediction:
        async def work(photo: bytes) -> Prediction:
            await service.view(photo)  # what is no picture, or too large a one, is refused in another process
            return _prediction(adapter, await service.compute(PREDICT, photo))

        return await service.answer(request, work)


def _add_predict_mask(router: APIRouter, service: Service) -> None:
    @router.post(
        "/predict",
        summary="The adapter's map of a photo: positions of its classes",
        response_class=Response,
        responses={**_PNG, **_OF_A_PHOTO},
        openapi_extra=PHOTO,
    )
    async def predict(request: Request) -> Response:
        async def work(photo: bytes) -> Response:
            await service.view(photo)
            return Response(_png(await service.compute(PREDICT, photo)), media_type="image/png")

        return await service.answer(request, work)


def _add_report(router: APIRouter, service: Service) -> None:
    engine, most = service.engine, service.limits.neighbours

    @router.post(
        "/report",
        summary="All of it for one photo, as the page shows it",
        responses=_OF_A_PHOTO,
        openapi_extra=PHOTO,
    )
    async def report(
        request: Request, k: int = Query(min(12, most), ge=1, le=most, description=_K)
    ) -> Report:
        async def work(photo: bytes) -> Report:
            item = await service.view(photo)
            measurements, overlay, hits = None, None, None
            if engine.measures:
                measurements, overlay = await service.read(
                    item,
                    MAPS,
                    lambda maps: (
                        _measurements(engine, item, maps, None),
                        overlay_url(engine.reading(item, maps)),
                    ),
                )
            if engine.index is not None:
                hits = await _nearest(service, item, k, None, EMBEDDING)
            return Report(photo=view_url(item), overlay=overlay, measurements=measurements, hits=hits)

        return await service.answer(request, work)


async def _nearest(service: Service, item: Decoded, k: int, where: str | None, space: str) -> list[Found]:
    engine = service.engine
    row = await service.compute(EMBED if space == EMBEDDING else SIGN, item)
    found = await service.search(lambda: engine.neighbours(row, k, where, space))
    return [Found(**one._asdict()) for one in found]


def _measurements(engine: Engine, item: Decoded, maps: Maps, eye: str | None) -> Measurements:
    values = engine.measurements(item, maps, eye)
    reasons = values.pop("reasons")
    every = {**dict.fromkeys(COLUMNS), **values}  # what could not be measured is null, not missing
    return Measurements(
        values=every, units={name: column.unit for name, column in COLUMNS.items()}, reasons=reasons
    )


def _prediction(adapter: Any, found: Any) -> Prediction:
    if adapter.task == "regression":
        values = np.atleast_1d(found).astype(float).tolist()
        return Prediction(task=adapter.task, label=None, probabilities=None, values=values)
    classes = adapter.classes_.tolist()
    shares = dict(zip(map(str, classes), map(float, found), strict=True))
    sets = adapter.head_.multi_label_
    label = (
        [c for c, p in zip(classes, found, strict=True) if p >= 0.5] if sets else classes[int(found.argmax())]
    )
    return Prediction(task=adapter.task, label=label, probabilities=shares, values=None)


def _png(mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()
