"""What gateway and Bento have in common on the wire: problem+json, the body limit, the records of the API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from immr.errors import ImageError, ImmrError, IndexUnavailableError

log = logging.getLogger(__name__)

MAX_USER_CHARS = 200
MAX_BODY_BYTES = 10 * 1024 * 1024
RETRY_AFTER_S = 2
VARIANT_HEADER = "x-immr-variant"
DIRECT = "direct"  # asked without a gateway
PREVIEW = "preview"  # looked at, never counted
PROBLEM_JSON = "application/problem+json"
JSON = "application/json"
INFERENCE_PATHS = "/v2"  # the Open Inference Protocol has its own form of errors
EVENTS_DESCRIPTION = """Each event stands for itself: what is valid is recorded, what is not comes back in
`rejected` with its place and reason. Where not one event is valid, the answer is 422 with the same list.
Sending an event again is harmless and counts as a duplicate. After a 200 the accepted events will not be
lost, whether or not the event log is there; after a 503, send the same events again."""


class FeaturesBody(BaseModel):
    """Entity features of an item: 7 days, CTR smoothed to the mean."""

    price: float
    category: str
    impressions_7d: int
    clicks_7d: int
    ctr_7d: float
    stock: float | None = None
    updated_at: datetime | None = None


class HitBody(BaseModel):
    """A ranked item; `score_parts` add up to `score`. Send `click_token` back with a click or an order."""

    item_id: str
    position: Annotated[int, Field(ge=1, description="1 is the top; later pages count on.")]
    score: float
    score_parts: dict[str, float]
    title: str
    category: str
    image_url: str
    features: FeaturesBody | None
    click_token: str


class SearchBody(BaseModel):
    """The answer to a photo; `degraded` names the parts that this answer had to do without."""

    model_config = ConfigDict(protected_namespaces=())

    query_id: str
    variant: str
    model_version: str
    hits: list[HitBody]
    degraded: list[str]
    took_ms: float
    next_page: Annotated[
        str | None, Field(description="Send it as `page` for the next hits; null where there are no more.")
    ] = None


class EventBody(BaseModel):
    """A click on a hit, or an order of it."""

    type: Literal["click", "order"]
    click_token: Annotated[str, Field(min_length=1, max_length=4096)]
    ts: datetime


class EventsBody(BaseModel):
    """What a shopper did; sending it twice counts once."""

    events: Annotated[list[EventBody], Field(min_length=1, max_length=1000)]


class Rejected(BaseModel):
    """An event that was not taken: its place in the request, and why."""

    index: int
    reason: str


class EventsAnswer(BaseModel):
    """How many were new, how many were there already, and which were not taken.

    Of the accepted, `waiting` are safe on disk while the event log is away, and may be repeats.
    """

    accepted: int
    duplicates: int
    waiting: int = 0
    rejected: list[Rejected]


class FieldProblem(BaseModel):
    """One input that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 has it; `detail` says what was wrong and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
    rejected: list[Rejected] = []


class ProblemError(Exception):
    """Raised anywhere in a request to answer with that problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[FieldProblem] | None = None,
        rejected: list[Rejected] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            errors=errors or [],
            rejected=rejected or [],
        )
        self.headers = dict(headers or {})


def unavailable(detail: str) -> ProblemError:
    """503 with Retry-After."""
    return ProblemError(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def problem_response(error: ProblemError, path: str) -> JSONResponse:
    """That problem as a response, in the form that clients of this path know."""
    if path.startswith(INFERENCE_PATHS):
        return JSONResponse({"error": error.problem.detail}, error.problem.status, error.headers)
    content = error.problem.model_dump(exclude_defaults=True) | {"type": error.problem.type}
    return JSONResponse(content, error.problem.status, error.headers, media_type=PROBLEM_JSON)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI says of its errors."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": schema}},
        }
        for status in statuses
    }


async def require_search(request: Request) -> None:
    """Dependency: 415 for a search that is neither a form nor JSON."""
    _require(
        request,
        "send the photo as multipart/form-data with a file field 'image', or {\"item_id\": …} as JSON",
        "multipart/form-data",
        JSON,
    )


async def require_json(request: Request) -> None:
    """Dependency: 415 for events that are not JSON."""
    _require(request, "send the events as application/json", JSON)


def media_type(content_type: str) -> str:
    """Without its parameters."""
    return content_type.split(";")[0].strip().lower()


def _require(request: Request, remedy: str, *media_types: str) -> None:
    given = request.headers.get("content-type", "")
    if media_type(given) not in media_types:
        raise ProblemError(415, f"the content type is {given[:100]!r}: {remedy}")


class BodyLimit:
    """ASGI: refuses a body over the limit by its Content-Length, or on the stream where there is none."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await problem_response(self._too_large(), scope["path"])(scope, receive, send)
            return
        seen_bytes = 0

        async def counted() -> Message:
            nonlocal seen_bytes
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > self._max_bytes:
                # FastAPI passes an HTTPException through its body parser, and turns any other into a 400
                raise HTTPException(413, self._too_large().problem.detail)
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ProblemError:
        limit_mb = self._max_bytes / 1024 / 1024
        return ProblemError(413, f"the request is larger than {limit_mb:g} MB: send a smaller photo")


def create_app(
    title: str,
    description: str,
    inner: Sequence[Middleware] = (),
    protection: Sequence[Middleware] = (),
    **options: Any,
) -> FastAPI:
    """A FastAPI application whose every error is problem+json, with the body limit and a true OpenAPI.

    `inner` is middleware that sees bodies within their limit only; `protection` stands before all else.
    """
    from immr import __version__

    app = FastAPI(title=title, description=description, version=__version__, **options)
    for middleware in inner:
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    app.add_middleware(BodyLimit)
    for middleware in protection:
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ImmrError, _on_immr)
    app.add_exception_handler(Exception, _on_unforeseen)
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        _, problems = models_json_schema(
            [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(problems["$defs"])
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return problem_response(error, request.url.path)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [
        FieldProblem(field=".".join(str(part) for part in each["loc"][1:]), message=str(each["msg"]))
        for each in error.errors()[:20]
    ]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return problem_response(
            ProblemError(400, "the body is no valid JSON", errors=found), request.url.path
        )
    detail = "; ".join(f"{each.field}: {each.message}" for each in found[:3])
    return problem_response(ProblemError(422, detail, errors=found), request.url.path)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path}: see /openapi.json for what there is"
    if error.status_code == 400 and "parsing the body" in detail:
        detail = "the body cannot be read: send valid UTF-8 JSON for events, a valid form for a search"
    if error.status_code == 405:
        detail = f"{request.method} is not possible here: see /openapi.json for what is"
    return problem_response(ProblemError(error.status_code, detail, headers=error.headers), request.url.path)


async def _on_immr(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ImageError):
        return problem_response(ProblemError(422, str(error)), request.url.path)
    if isinstance(error, IndexUnavailableError):
        return problem_response(unavailable(str(error)), request.url.path)
    return await _on_unforeseen(request, error)


async def _on_unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "this is our fault, not yours: it is in the log; try again later"
    return problem_response(ProblemError(500, detail), request.url.path)
