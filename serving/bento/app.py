"""The HTTP application of one model version: what a Bento serves."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.types import Scope

from immr.data.pictures.relocation import kept_here
from immr.experiment.definition import DIRECT
from serving.bento.answering import VersionService
from serving.bento.inference_routes import add_inference
from serving.bento.pictures import picture_response
from serving.process.options import ServingOptions
from serving.process.startup import create_service_app
from serving.wire.admission import posts_to
from serving.wire.application import JSON
from serving.wire.forms import SearchForm
from serving.wire.problems import INFERENCE_PATHS, ProblemError, problem_responses
from serving.wire.routes import (
    PICTURE_PATH,
    PICTURE_RESPONSES,
    PICTURE_SUMMARY,
    READY_SUMMARY,
    SEARCH_PROBLEMS,
    SEARCH_SUMMARY,
)
from serving.wire.schemas import VARIANT_HEADER, SearchBody
from serving.wire.search import regions
from serving.wire.search.search_request import read_search, request_body
from serving.wire.user import user_of

_VARIANT = re.compile(r"[A-Za-z0-9._-]{1,64}")

_VARIANT_PARAMETER = {
    "name": VARIANT_HEADER,
    "in": "header",
    "description": "Set by the gateway; a `preview` is not recorded.",
    "schema": {"type": "string", "default": DIRECT, "pattern": f"^{_VARIANT.pattern}$"},
}


def create_version_app(
    service: VersionService, options: ServingOptions | None = None, lifespan: Any = None
) -> FastAPI:
    """Creates the application of a service. The caller starts and stops the service, or `lifespan` does."""
    app = create_service_app(
        "IMMR search",
        "Visual search by one model version: send a photo, get items, report clicks.",
        options=options or ServingOptions(),
        metrics=service.metrics,
        record_events=lambda body: service.recorder.record_events(body.events),
        bounds={_is_encoding: service.max_in_progress, posts_to("/v1/events"): service.max_in_progress},
        lifespan=lifespan,
    )
    _add_search(app, service)
    _add_regions(app, service)
    _add_pictures(app, service)
    _add_readiness(app, service)
    add_inference(app, service)
    return app


def _is_encoding(scope: Scope) -> bool:
    path: str = scope["path"]
    infer = path.startswith(INFERENCE_PATHS) and path.endswith("/infer")
    return scope["method"] == "POST" and (path in ("/v1/search", regions.PATH) or infer)


def _add_search(app: FastAPI, service: VersionService) -> None:
    # the hot path: without FastAPI's dependencies and serialization
    @app.post(
        "/v1/search",
        summary=SEARCH_SUMMARY,
        response_model=SearchBody,
        responses=SEARCH_PROBLEMS,
        openapi_extra={"requestBody": request_body(), "parameters": [_VARIANT_PARAMETER]},
    )
    async def search(request: Request) -> Response:
        variant = request.headers.get(VARIANT_HEADER, DIRECT)
        if not _VARIANT.fullmatch(variant):
            raise ProblemError(422, f"{VARIANT_HEADER} must have 1 to 64 letters, digits, '.', '_' or '-'.")
        user_id, user_key = user_of(request.headers)
        body, answer = await service.search(await read_search(request), variant, user_key, user_id)
        timing = ", ".join(f"{stage};dur={took_ms:.2f}" for stage, took_ms in answer.stage_ms.items())
        return Response(body.model_dump_json(), media_type=JSON, headers={"Server-Timing": timing})


def _add_regions(app: FastAPI, service: VersionService) -> None:
    @app.post(
        regions.PATH,
        summary=regions.SUMMARY,
        responses=regions.RESPONSES,
        openapi_extra={"requestBody": regions.request_body()},
    )
    async def propose_regions(request: Request) -> regions.RegionsBody:
        form = SearchForm.read(await request.body(), request.headers, request.url.query)
        return await service.regions(regions.photo_of(form))


def _add_pictures(app: FastAPI, service: VersionService) -> None:
    @app.get(PICTURE_PATH, summary=PICTURE_SUMMARY, response_class=Response, responses=PICTURE_RESPONSES)
    def item_image(item_id: str) -> Response:
        service.searcher()
        item = service.version.item(item_id)
        if item is None:
            raise ProblemError(404, f"There is no item {item_id[:100]!r} in {service.version.file.id}.")
        return picture_response(item_id, kept_here(item.image, service.pictures_dir))


def _add_readiness(app: FastAPI, service: VersionService) -> None:
    @app.get("/health/ready", summary=READY_SUMMARY, responses=problem_responses(503))
    def ready() -> dict[str, bool | int | str]:
        return {
            "documents": service.ready(),
            "ready": True,
            "features": service.version.features_ready,
            "model_version": service.version.file.id,
            "home": service.home_id,
        }
