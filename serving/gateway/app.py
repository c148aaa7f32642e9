"""The A/B gateway over HTTP; `serving.gateway.split` has the routing.

The experiment file names the variants and their addresses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

from fastapi import FastAPI, Request, Response
from starlette.types import Scope

from immr.experiment.definition import PREVIEW
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.split import MAX_IN_PROGRESS, TIMEOUT_S, Gateway
from serving.gateway.visitor import COOKIE, COOKIE_AGE_S, new_visitor, signed, visitor_of
from serving.process.draining import KEEP_ALIVE_S, DrainingServer
from serving.process.options import ServingOptions
from serving.process.startup import create_service_app, instrumented, read_options
from serving.wire.admission import posts_to
from serving.wire.application import JSON
from serving.wire.forms import SearchForm, pick
from serving.wire.problems import problem_responses, unavailable
from serving.wire.protocol import bounded
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
from serving.wire.search.search_context import context_text
from serving.wire.search.search_request import request_body, validate

FINISH_S = 10
"""How long requests in progress may take once the server has drained."""
_MAX_PICTURES = 256  # more than the pool has connections, because a page of hits asks for many at once
_SEARCH_PARAMETERS = [
    {
        "name": COOKIE,
        "in": "cookie",
        "description": "Identifies a visitor without user_id.",
        "schema": {"type": "string", "default": ""},
    },
    {
        "name": VARIANT_HEADER,
        "in": "header",
        "description": "A `preview` is not recorded; other values are ignored.",
        "schema": {"type": "string", "default": ""},
    },
]
_PICTURE_HEADERS = ("content-type", "cache-control", "etag", "last-modified", "location")


def create_gateway_app(gateway: Gateway, options: ServingOptions | None = None) -> FastAPI:
    """Creates the application of a gateway, which it starts and stops."""
    options = options or ServingOptions()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = create_service_app(
        "IMMR gateway",
        "Visual search, A/B-tested: send a photo, get items, report clicks.",
        options=options,
        metrics=gateway.metrics,
        record_events=lambda body: gateway.recorder.record_events(body.events),
        bounds={
            posts_to("/v1/search"): gateway.max_in_progress,
            posts_to(regions.PATH): gateway.max_in_progress,
            posts_to("/v1/events"): gateway.max_in_progress,
            _is_picture: _MAX_PICTURES,
        },
        lifespan=lifespan,
    )
    _add_search(app, gateway, options.cookie_secure)
    _add_regions(app, gateway)
    _add_pictures(app, gateway)
    _add_readiness(app, gateway)
    return app


def _is_picture(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith("/v1/items/")


def _add_search(app: FastAPI, gateway: Gateway, cookie_secure: bool) -> None:
    # the hot path: without FastAPI's dependencies
    @app.post(
        "/v1/search",
        summary=SEARCH_SUMMARY,
        response_model=SearchBody,
        responses=SEARCH_PROBLEMS,
        openapi_extra={"requestBody": request_body(), "parameters": _SEARCH_PARAMETERS},
    )
    async def search(request: Request) -> Response:
        form = SearchForm.read(await request.body(), request.headers, request.url.query)
        fields = validate(form).fields
        context = context_text(fields.context, gateway.dimensions)
        user, set_cookie = fields.user_id, ""
        if user is None:
            user, is_newest = visitor_of(request.cookies.get(COOKIE, ""), gateway.keys)
            user = user or new_visitor()
            set_cookie = "" if is_newest else signed(user, gateway.keys[0])
        is_preview = request.headers.get(VARIANT_HEADER) == PREVIEW
        body = await gateway.search(form, user, is_preview, context)
        response = Response(body.model_dump_json(), media_type=JSON)
        if set_cookie:
            response.set_cookie(
                COOKIE, set_cookie, COOKIE_AGE_S, httponly=True, samesite="lax", secure=cookie_secure
            )
        return response


def _add_regions(app: FastAPI, gateway: Gateway) -> None:
    @app.post(
        regions.PATH,
        summary=regions.SUMMARY,
        response_model=regions.RegionsBody,
        responses=regions.RESPONSES,
        openapi_extra={"requestBody": regions.request_body()},
    )
    async def propose_regions(request: Request) -> Response:
        form = SearchForm.read(await request.body(), request.headers, request.url.query)
        regions.photo_of(form)
        answer = await gateway.regions(form)
        return Response(answer.content, answer.status, media_type=JSON)


def _add_pictures(app: FastAPI, gateway: Gateway) -> None:
    responses = {**PICTURE_RESPONSES, **problem_responses(408, 429)}

    @app.get(PICTURE_PATH, summary=PICTURE_SUMMARY, response_class=Response, responses=responses)
    async def item_image(item_id: str, request: Request) -> Response:
        answer = await gateway.picture(item_id, pick(request.headers, "authorization"))
        return Response(answer.content, answer.status, pick(answer.headers, *_PICTURE_HEADERS))


def _add_readiness(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/health/ready", summary=READY_SUMMARY, responses=problem_responses(503))
    async def ready() -> dict[str, bool | dict[str, bool]]:
        variants = await gateway.readiness()
        if not any(variants.values()):
            raise unavailable(f"No variant is ready: {', '.join(variants)}. See their /health/ready.")
        return {"ready": True, "variants": variants}


def serve_gateway(
    host: str, port: int, timeout_s: float = TIMEOUT_S, max_in_progress: int | None = None
) -> None:
    """Serves until SIGINT or SIGTERM, then drains (see `serving.process.draining`).

    Args:
        host: Address to listen on.
        port: Port to listen on.
        timeout_s: How long a variant may take.
        max_in_progress: Concurrent searches; None: IMMR_MAX_IN_PROGRESS, else `MAX_IN_PROGRESS`.

    Raises:
        ImmrError: a setting is invalid.
    """
    import uvicorn

    with ExitStack() as running:
        options = read_options()
        most = max_in_progress or options.max_in_progress or MAX_IN_PROGRESS
        parts = running.enter_context(connect(Settings()))
        gateway = Gateway(parts, timeout_s, most)
        app = running.enter_context(
            instrumented(
                "immr-gateway", gateway.metrics, options, lambda: create_gateway_app(gateway, options)
            )
        )
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=bounded(options.receive_timeout_s),
            access_log=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=FINISH_S,
        )
        with suppress(KeyboardInterrupt):
            DrainingServer(config).run()
