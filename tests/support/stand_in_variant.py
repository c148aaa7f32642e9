"""A variant over real HTTP that answers whatever a test wants, and remembers the requests."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from serving.wire.problems import PROBLEM_JSON
from serving.wire.schemas import VARIANT_HEADER
from tests.support.in_process import serve

Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class StandIn:
    """Answers every request with `answer`, which a test may replace at any time."""

    url: str
    answer: Answer
    asked: list[str] = field(default_factory=list)

    def says(self, status: int, content: bytes | str = b"", content_type: str = "text/html") -> None:
        async def said(request: Request) -> Response:
            return Response(content, status, {"content-type": content_type})

        self.answer = said

    def finds(self, version: str) -> None:
        """Answers with a hit of this version from now on."""

        async def found(request: Request) -> Response:
            return hits(version, variant=request.headers.get(VARIANT_HEADER, "direct"))

        self.answer = found


@contextmanager
def stand_in(version: str = "immr-1") -> Iterator[StandIn]:
    app = FastAPI()
    made = StandIn("", lambda request: _nothing())
    made.finds(version)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def any_path(path: str, request: Request) -> Response:
        await request.body()
        made.asked.append(f"/{path}")
        return await made.answer(request)

    server = serve(app)
    made.url = server.url
    try:
        yield made
    finally:
        server.stop()


def hits(version: str, **changes: Any) -> Response:
    """An answer with one hit."""
    hit = {
        "item_id": "red",
        "position": 1,
        "score": 0.5,
        "score_parts": {"cosine": 0.5},
        "title": "Red",
        "category": "Colours",
        "image_url": "/v1/items/red/image",
        "features": None,
        "click_token": "token",
    }
    body = {"query_id": uuid.uuid4().hex, "variant": "direct", "model_version": version, "hits": [hit]}
    return JSONResponse(body | {"degraded": [], "took_ms": 1.0, "next_page": None} | changes)


def problem(status: int, detail: str, **headers: str) -> Response:
    content = {"title": "Problem", "status": status, "detail": detail}
    return JSONResponse(content, status, headers, media_type=PROBLEM_JSON)


async def _nothing() -> Response:
    return Response()
