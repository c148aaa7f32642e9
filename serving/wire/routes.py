"""What the routes of gateway and Bento share: events, liveness, and the OpenAPI texts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from pydantic import ValidationError

from serving.wire.application import JSON, require_json
from serving.wire.json_body import read_json
from serving.wire.problems import field_problems, invalid_fields, problem_responses
from serving.wire.schemas import EventBody, EventsAnswer, EventsBody

EVENTS_DESCRIPTION = """Each event is checked on its own: valid ones are recorded, the others are listed in
`rejected` with their index and reason. If no event is valid, the answer is a 422 with the same list. Sending
an event again is harmless and counts as a duplicate. After a 200, no accepted event is lost, even if the
event log is down. After a 503, send the same events again."""
SEARCH_SUMMARY = "Find the items in a photo, or items like a given one"
SEARCH_PROBLEMS = problem_responses(400, 404, 408, 413, 415, 422, 429, 503)
READY_SUMMARY = "Whether searches are answered, and if not, why"
PICTURE_PATH = "/v1/items/{item_id:path}/image"
PICTURE_SUMMARY = "An item's catalogue picture"
PICTURE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {}}, "description": "The picture"},
    307: {"description": "The picture is at another address"},
    **problem_responses(404, 422, 503),
}
_EVENTS_REQUEST = {
    "required": True,
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/EventsBody"}}},
}


def add_events(app: FastAPI, record: Callable[[EventsBody], Awaitable[EventsAnswer]]) -> None:
    """Adds the route for clicks and orders."""

    @app.post(
        "/v1/events",
        summary="Report clicks and orders",
        description=EVENTS_DESCRIPTION,
        responses=problem_responses(400, 408, 413, 415, 422, 429, 503),
        openapi_extra={"requestBody": _EVENTS_REQUEST},
    )
    async def events(request: Request) -> EventsAnswer:
        require_json(request)
        content = read_json(await request.body())
        try:
            body = EventsBody.model_validate(content)
        except ValidationError as error:
            raise invalid_fields(field_problems(error, tuple(EventBody.model_fields))) from error
        return await record(body)


def add_liveness(app: FastAPI) -> None:
    """Adds the liveness probe."""

    @app.get("/health/live", summary="Whether the process is running")
    async def live() -> dict[str, bool]:
        return {"live": True}
