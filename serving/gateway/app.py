"""The A/B gateway over HTTP. What it does with a search stands in `serving.gateway.split`.

`python -m serving.gateway --port 8080`; where the variants are stands in the experiment file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import Cookie, FastAPI, Header, Request, Response
from starlette.middleware import Middleware
from starlette.types import Scope

from immr.errors import ImmrError
from immr.settings import Settings
from serving.gateway.split import MAX_UNDER_WAY, TIMEOUT_S, Gateway
from serving.gateway.visitor import COOKIE, COOKIE_AGE_S, new_visitor, signed, visitor_of
from serving.process import logs, tracing
from serving.process.draining import DrainingServer
from serving.process.options import ServingOptions
from serving.wire.admission import Admission, posts
from serving.wire.application import create_app
from serving.wire.bearer import tell_of_keys
from serving.wire.forms import SearchForm, passed_on
from serving.wire.problems import problem_responses, unavailable
from serving.wire.protocol import bounded
from serving.wire.routes import (
    PICTURE_PATH,
    PICTURE_RESPONSES,
    PICTURE_SUMMARY,
    READY_SUMMARY,
    SEARCH_PROBLEMS,
    SEARCH_SUMMARY,
    add_events,
    add_liveness,
)
from serving.wire.schemas import PREVIEW, VARIANT_HEADER, SearchBody
from serving.wire.search_request import asked_by, request_body

_FINISH_S = 10
_MAX_PICTURES = 256  # at once; more than there are connections for, which one page of hits may ask for
_OF_PICTURES = ("content-type", "cache-control", "etag", "last-modified", "location")


def create_gateway_app(gateway: Gateway, options: ServingOptions | None = None) -> FastAPI:
    """The application around a gateway, which it starts and stops."""
    options = options or ServingOptions()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = create_app(
        "IMMR gateway",
        "Visual search, A/B-tested: a photo in, items out, clicks back.",
        inner=[
            Middleware(Admission, is_work, at_once, options.receive_timeout_s)
            for is_work, at_once in (
                (posts("/v1/search"), gateway.max_under_way),
                (posts("/v1/events"), gateway.max_under_way),
                (_is_picture, _MAX_PICTURES),
            )
        ],
        protection=options.protection(),
        lifespan=lifespan,
    )
    gateway.metrics.attach(app)
    _add_search(app, gateway, options.cookie_secure)
    add_events(app, lambda body: gateway.recorder.events(body.events))
    _add_pictures(app, gateway)
    add_liveness(app)
    _add_readiness(app, gateway)
    if options.bearer_keys_file is not None:
        tell_of_keys(app)
    return app


def _is_picture(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith("/v1/items/")


def _add_search(app: FastAPI, gateway: Gateway, cookie_secure: bool) -> None:
    @app.post(
        "/v1/search",
        summary=SEARCH_SUMMARY,
        response_model=SearchBody,
        responses=SEARCH_PROBLEMS,
        openapi_extra={"requestBody": request_body()},
    )
    async def search(
        request: Request,
        cookie: Annotated[str, Cookie(alias=COOKIE, description="Stands in for user_id.")] = "",
        variant: Annotated[
            str, Header(alias=VARIANT_HEADER, description="`preview` is recorded nowhere; else ignored.")
        ] = "",
    ) -> Response:
        form = SearchForm.read(await request.body(), request.headers)
        user, set_cookie = asked_by(form).fields.user_id, ""
        if user is None:
            user, is_newest = visitor_of(cookie, gateway.keys)
            user = user or new_visitor()
            set_cookie = "" if is_newest else signed(user, gateway.keys[0])
        body = await gateway.search(form, user, preview=variant == PREVIEW)
        response = Response(body.model_dump_json(), media_type="application/json")
        if set_cookie:
            response.set_cookie(
                COOKIE, set_cookie, COOKIE_AGE_S, httponly=True, samesite="lax", secure=cookie_secure
            )
        return response


def _add_pictures(app: FastAPI, gateway: Gateway) -> None:
    responses = {**PICTURE_RESPONSES, **problem_responses(408, 429)}

    @app.get(PICTURE_PATH, summary=PICTURE_SUMMARY, response_class=Response, responses=responses)
    async def item_image(item_id: str, request: Request) -> Response:
        answer = await gateway.picture(item_id, passed_on(request.headers, "authorization"))
        return Response(answer.content, answer.status, passed_on(answer.headers, *_OF_PICTURES))


def _add_readiness(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/health/ready", summary=READY_SUMMARY, responses=problem_responses(503))
    async def ready() -> dict[str, bool | dict[str, bool]]:
        variants = await gateway.readiness()
        if not any(variants.values()):
            raise unavailable(f"no variant is ready: {', '.join(variants)}; look at their /health/ready")
        return {"ready": True, "variants": variants}


def main() -> int:
    """Serve until SIGINT or SIGTERM, then drain (see `serving.process.draining`)."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m serving.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="how long a variant may take")
    parser.add_argument(
        "--max-under-way", type=int, help="searches at once; more are refused with 429 (default 256)"
    )
    arguments = parser.parse_args()
    stop_metrics = None
    try:
        options = ServingOptions()
        logs.configure(options.log_format)
        under_way = arguments.max_under_way or options.max_under_way or MAX_UNDER_WAY
        gateway = Gateway(Settings(), arguments.timeout_s, under_way)
        if options.metrics_port:
            stop_metrics = gateway.metrics.serve(options.metrics_host, options.metrics_port)
        app = create_gateway_app(gateway, options)
        tracing.trace(app, "immr-gateway")
    except ImmrError as error:
        print(error, file=sys.stderr)
        return 1
    config = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        http=bounded(options.receive_timeout_s),
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_FINISH_S,
    )
    with suppress(KeyboardInterrupt):
        DrainingServer(config).run()
    if stop_metrics is not None:
        stop_metrics()
    return 0
