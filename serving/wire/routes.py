"""Routes that gateway and Bento share: clicks, liveness, and what the OpenAPI says of the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI

from serving.wire.application import require_json
from serving.wire.problems import problem_responses
from serving.wire.schemas import EventsAnswer, EventsBody

EVENTS_DESCRIPTION = """Each event stands for itself: what is valid is recorded, what is not comes back in
`rejected` with its place and reason. Where not one event is valid, the answer is 422 with the same list.
Sending an event again is harmless and counts as a duplicate. After a 200 the accepted events will not be
lost, whether or not the event log is there; after a 503, send the same events again."""
SEARCH_SUMMARY = "Find the items that a photo shows, or more like an item"
SEARCH_PROBLEMS = problem_responses(400, 404, 408, 413, 415, 422, 429, 503)
READY_SUMMARY = "Whether searches can be answered, else why not"
PICTURE_PATH = "/v1/items/{item_id:path}/image"
PICTURE_SUMMARY = "An item's catalogue picture"
PICTURE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {}}, "description": "The picture"},
    307: {"description": "The picture lies elsewhere"},
    **problem_responses(404, 422, 503),
}


def add_events(app: FastAPI, record: Callable[[EventsBody], Awaitable[EventsAnswer]]) -> None:
    """Take clicks and orders."""

    @app.post(
        "/v1/events",
        summary="Tell what a shopper did with hits",
        description=EVENTS_DESCRIPTION,
        responses=problem_responses(400, 408, 413, 415, 422, 429, 503),
        dependencies=[Depends(require_json)],
    )
    async def events(body: EventsBody) -> EventsAnswer:
        return await record(body)


def add_liveness(app: FastAPI) -> None:
    """Say that the process runs."""

    @app.get("/health/live", summary="Whether the process runs")
    async def live() -> dict[str, bool]:
        return {"live": True}
