"""Every error is answered as problem+json (RFC 9457), and documented as such in the OpenAPI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from immr.errors import ImageError, ImmrError, IndexUnavailableError
from serving.wire.schemas import EventsBody, Rejected

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
PROBLEM_JSON = "application/problem+json"
INFERENCE_PATHS = "/v2"
"""The Open Inference Protocol has an error format of its own."""
_MAX_FIELDS = 20
_NUMBER = "Send a number with a decimal point, such as 4.5"
_WHOLE = "Send a whole number, such as 10"
_TIME = "Send a time in ISO 8601 with its time zone, such as 2026-05-01T12:00:00Z"
_OBJECT = "Send a JSON object"
_BY_ERROR_TYPE = {
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
}
"""In place of Pydantic's messages, which describe its parser and not what to send."""
_OWN_ERROR = "Value error, "  # how Pydantic begins the message of a validator of ours


class FieldProblem(BaseModel):
    """An invalid field and the reason."""

    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457). `detail` describes what is wrong and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []
    rejected: list[Rejected] = []


class ProblemError(Exception):
    """Ends the request with this problem, wherever it is raised."""

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


def invalid_fields(errors: Sequence[FieldProblem]) -> ProblemError:
    """422 that lists the invalid fields."""
    found = list(errors[:_MAX_FIELDS])
    detail = "; ".join(f"{each.field}: {each.message}" for each in found[:3])
    return ProblemError(422, detail, errors=found)


def field_problems(
    error: ValidationError | RequestValidationError,
    known: Sequence[str] = (),
    forms: Mapping[str, str] | None = None,
) -> list[FieldProblem]:
    """What Pydantic found, field by field; a name like `events.0.ts` leads to a nested one.

    Args:
        error: From validating a body, or a request.
        known: The fields to send, for the message about another one.
        forms: By field, the message about a text that does not match the field's pattern.
    """
    in_request = isinstance(error, RequestValidationError)  # then the first part is "body", "query" …
    messages = {**_BY_ERROR_TYPE, "extra_forbidden": f"Unknown field: send only {', '.join(known)}"}
    found = []
    for each in error.errors():
        place = [str(part) for part in each["loc"][in_request:]]
        message = messages.get(each["type"], str(each["msg"]).removeprefix(_OWN_ERROR))
        if each["type"] == "too_long":
            message = "Send at most {max_length}, not {actual_length}".format_map(each["ctx"])
        if each["type"] == "string_pattern_mismatch" and place:
            message = (forms or {}).get(place[0], message)
        found.append(FieldProblem(field=".".join(place)[:100] if place else "body", message=message))
    return found


def problem_response(error: ProblemError, path: str) -> JSONResponse:
    """The problem as a response, in the error format of this path."""
    if path.startswith(INFERENCE_PATHS):
        return JSONResponse({"error": error.problem.detail}, error.problem.status, error.headers)
    content = error.problem.model_dump(exclude_defaults=True) | {"type": error.problem.type}
    return JSONResponse(content, error.problem.status, error.headers, media_type=PROBLEM_JSON)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its OpenAPI."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": schema}},
        }
        for status in statuses
    }


def answer_with_problems(app: FastAPI) -> None:
    """Makes an application answer every error as a problem, and adds the schemas to its OpenAPI."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_routing)
    app.add_exception_handler(ImmrError, _on_immr)
    app.add_exception_handler(Exception, _on_unexpected)
    _add_schemas(app)


def _add_schemas(app: FastAPI) -> None:
    """Adds the models that our handlers read and write without FastAPI."""
    generate: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        _, found = models_json_schema(
            [(Problem, "serialization"), (EventsBody, "validation")],
            ref_template="#/components/schemas/{model}",
        )
        schema.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return problem_response(error, request.url.path)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem_response(invalid_fields(field_problems(error)), request.url.path)


async def _on_routing(request: Request, error: Exception) -> JSONResponse:
    """Answers the router's errors; our own are `ProblemError`."""
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"There is nothing at {request.url.path}. See /openapi.json for the paths."
    elif error.status_code == 405:
        detail = f"{request.method} is not allowed here. See /openapi.json for the methods."
    return problem_response(ProblemError(error.status_code, detail, headers=error.headers), request.url.path)


async def _on_immr(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, ImageError):
        return problem_response(ProblemError(422, str(error)), request.url.path)
    if isinstance(error, IndexUnavailableError):
        return problem_response(unavailable(str(error)), request.url.path)
    return await _on_unexpected(request, error)


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    detail = "Something went wrong on our side, and it has been logged. Try again later."
    return problem_response(ProblemError(500, detail), request.url.path)
