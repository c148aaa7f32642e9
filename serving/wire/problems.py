"""Errors on the wire: problem+json (RFC 9457) for whatever goes wrong, and the same words in the OpenAPI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from immr.errors import ImageError, ImmrError, IndexUnavailableError
from serving.wire.schemas import Rejected

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
PROBLEM_JSON = "application/problem+json"
INFERENCE_PATHS = "/v2"  # the Open Inference Protocol has its own form of errors


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


def answer_with_problems(app: FastAPI) -> None:
    """Let an application answer every error as a problem, and say so in its OpenAPI."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ImmrError, _on_immr)
    app.add_exception_handler(Exception, _on_unforeseen)
    _describe_problems(app)


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
