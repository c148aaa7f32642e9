"""The HTTP application of one model version: what a Bento serves."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.middleware import Middleware
from starlette.types import Scope

from immr.data import images
from immr.events import query_ids, tokens
from immr.machine import cores
from immr.search.searcher import Answer, Searcher
from immr.settings import Settings
from immr.types import FloatArray, Hit
from immr.wiring import connect
from serving.bento.inference import InferRequest, add_inference, read_request
from serving.bento.version import ServedVersion
from serving.process.logs import SEARCHES
from serving.process.metrics import Metrics
from serving.process.recording import Recorder
from serving.wire import paging
from serving.wire.admission import RECEIVE_TIMEOUT_S, UNDER_WAY_PER_CORE, Admission, posts
from serving.wire.application import JSON, create_app
from serving.wire.bearer import tell_of_keys
from serving.wire.paging import Page
from serving.wire.problems import INFERENCE_PATHS, ProblemError, problem_responses, unavailable
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
from serving.wire.schemas import DIRECT, USER_KEY_HEADER, VARIANT_HEADER, HitBody, SearchBody
from serving.wire.search_request import Asked, read_search, request_body

searches = logging.getLogger(SEARCHES)

T = TypeVar("T")
MAX_DEPTH = 1000
"""Hits that can be paged through: deeper ones cost the index more and help nobody."""
_VARIANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_USER_KEY = re.compile(r"[0-9a-f]{0,8}")

_VARIANT_PARAMETER = {
    "name": VARIANT_HEADER,
    "in": "header",
    "description": "Set by the gateway; `preview` is recorded nowhere.",
    "schema": {"type": "string", "default": DIRECT, "pattern": f"^{_VARIANT.pattern}$"},
}


class VersionService:
    """One version behind HTTP. `start` and `stop` belong to the server's event loop."""

    def __init__(
        self, folder: Path, settings: Settings, threads: int = 1, max_under_way: int | None = None
    ) -> None:
        """`folder` holds what packaging put beside the service; `threads` are those of one encoding.

        Over `max_under_way` searches at once are refused with 429; by default 8 for a core.
        """
        at_once = cores.usable()
        self.max_under_way = max_under_way or UNDER_WAY_PER_CORE * at_once
        self.version = ServedVersion(folder, settings, threads, at_once)
        self.metrics = Metrics()
        self._settings = settings
        self._keys = connect(settings).token_keys
        self._recorder: Recorder | None = None
        # one search is encoded while another is decoded or ranked, so that every core has one to encode
        self._pool = ThreadPoolExecutor(2 * at_once, thread_name_prefix="search")

    async def start(self) -> None:
        """Bring the version up in the background."""
        self.version.start()

    async def stop(self) -> None:
        """Finish what is under way, then let go of everything."""
        self._pool.shutdown()
        self.version.close()
        if self._recorder is not None:
            await self._recorder.close()

    @property
    def recorder(self) -> Recorder:
        """Opened when first needed: behind a gateway a Bento has no event log."""
        if self._recorder is None:
            self._recorder = Recorder(self._settings, self.metrics)
        return self._recorder

    async def search(self, asked: Asked, variant: str, user_key: str = "") -> tuple[SearchBody, Answer]:
        """Answer a search, and record it where no gateway does.

        Raises:
            ProblemError: 503 while the version is not ready; 404 for an unknown item, 400 for a page token.
            ImageError: the photo is none.
        """
        start = time.perf_counter()
        searcher = self.searcher()
        answer, page = await self._in_pool(self._answer, searcher, asked)
        now = datetime.now(UTC)
        query_id = query_ids.new_query_id(user_key or query_ids.user_key(asked.fields.user_id or ""))
        first, key = page.k * page.number + 1, self._keys[0]
        signer = tokens.Signer(key, query_id, variant, self.version.file.id, now)
        body = SearchBody(
            query_id=query_id,
            variant=variant,
            model_version=self.version.file.id,
            hits=[_hit_body(hit, position, signer) for position, hit in enumerate(answer.hits, start=first)],
            degraded=answer.degraded,
            took_ms=1000 * (time.perf_counter() - start),
            next_page=self._next_page(answer, page, key),
        )
        user_id = asked.fields.user_id or f"anonymous-{query_id}"
        if variant == DIRECT and not self.recorder.search(body, user_id, now):
            body.degraded.append("events")
        for part in body.degraded:
            self.metrics.degraded.labels(part).inc()
        self.metrics.observe({**answer.stage_ms, "total": body.took_ms})
        _tell(body, answer)
        return body, answer

    def _answer(self, searcher: Searcher, asked: Asked) -> tuple[Answer, Page]:
        fields, filters, version = asked.fields, asked.filters, self.version.file.id
        if fields.page is not None:
            page = paging.read(fields.page, self._keys, version)
            return searcher.page(page.embedding_D, page.k, page.filters, page.number), page
        if fields.item_id is not None:
            answer = searcher.more_like(fields.item_id, fields.k, filters)
            if answer is None:
                raise ProblemError(404, f"there is no item {fields.item_id[:100]!r} in {version}")
            filters = replace(filters, exclude=fields.item_id)
        else:
            assert asked.photo is not None, "one of the three is there"
            self.metrics.batch_size.observe(1)
            answer = searcher.search(asked.photo, fields.k, filters)
        return answer, Page(version, fields.k, 0, filters, answer.embedding_D)

    def _next_page(self, answer: Answer, page: Page, key: bytes) -> str | None:
        following = replace(page, number=page.number + 1)
        if not answer.has_more or following.number * page.k >= MAX_DEPTH:
            return None
        return paging.sign(following, key)

    def searcher(self) -> Searcher:
        """The version's search.

        Raises:
            ProblemError: 503 with the reason while it is not ready.
        """
        searcher = self.version.searcher
        if searcher is None:
            raise unavailable(self.version.reason)
        return searcher

    def ready(self) -> int:
        """How many documents can be found.

        Raises:
            ProblemError: 503 with the reason while the version is not ready.
            IndexUnavailableError: the index went away since.
        """
        self.searcher()
        return self.version.count()

    async def embed(self, body: bytes, header_length: str | None) -> tuple[InferRequest, FloatArray]:
        """Answer a request of the Open Inference Protocol.

        Raises:
            ProblemError: 503 while the version is not ready, 400 where the request does not fit.
        """
        self.searcher()
        return await self._in_pool(self._embed, body, header_length)

    def _embed(self, body: bytes, header_length: str | None) -> tuple[InferRequest, FloatArray]:
        encoder = self.version.encoder
        request = read_request(body, header_length, encoder.image_size_px)
        self.metrics.batch_size.observe(len(request.pixels_B3SS))
        return request, encoder.embed(request.pixels_B3SS)

    async def _in_pool(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def create_version_app(
    service: VersionService, receive_timeout_s: float = RECEIVE_TIMEOUT_S, **options: Any
) -> FastAPI:
    """The application around a service; whoever serves it calls `start` and `stop`."""
    app = create_app(
        "IMMR search",
        "Visual search by one model version: a photo in, items out, clicks back.",
        inner=[
            Middleware(Admission, is_work, service.max_under_way, receive_timeout_s)
            for is_work in (_is_work, posts("/v1/events"))
        ],
        **options,
    )
    service.metrics.attach(app)
    _add_search(app, service)
    add_events(app, lambda body: service.recorder.events(body.events))
    _add_images(app, service)
    add_liveness(app)
    _add_readiness(app, service)
    add_inference(app, service)
    if options.get("protection"):
        tell_of_keys(app)
    return app


def _hit_body(hit: Hit, position: int, signer: tokens.Signer) -> HitBody:
    return HitBody(
        item_id=hit.item_id,
        position=position,
        score=hit.score,
        score_parts=dict(hit.score_parts),
        title=hit.title,
        category=hit.category,
        image_url=f"/v1/items/{quote(hit.item_id, safe='')}/image",
        features=hit.features,
        click_token=signer.sign(hit.item_id, position),
    )


def _tell(body: SearchBody, answer: Answer) -> None:
    if searches.isEnabledFor(logging.INFO):
        said = body.model_dump(include={"query_id", "variant", "model_version", "degraded"})
        stages = {f"{stage}_ms": round(took_ms, 2) for stage, took_ms in answer.stage_ms.items()}
        searches.info("answered", extra={"said": {**said, "hits": len(body.hits), **stages}})


def _is_work(scope: Scope) -> bool:
    path: str = scope["path"]
    infer = path.startswith(INFERENCE_PATHS) and path.endswith("/infer")
    return scope["method"] == "POST" and (path == "/v1/search" or infer)


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
            raise ProblemError(422, "x-immr-variant has letters, digits, '.', '_' and '-' only, 64 at most")
        user_key = request.headers.get(USER_KEY_HEADER, "")
        if not _USER_KEY.fullmatch(user_key):
            raise ProblemError(422, "x-immr-user-key has up to 8 hex digits: leave it to the gateway")
        body, answer = await service.search(await read_search(request), variant, user_key)
        timing = ", ".join(f"{stage};dur={took_ms:.2f}" for stage, took_ms in answer.stage_ms.items())
        return Response(body.model_dump_json(), media_type=JSON, headers={"Server-Timing": timing})


def _add_images(app: FastAPI, service: VersionService) -> None:
    @app.get(PICTURE_PATH, summary=PICTURE_SUMMARY, response_class=Response, responses=PICTURE_RESPONSES)
    def item_image(item_id: str) -> Response:
        service.searcher()
        item = service.version.item(item_id)
        if item is None:
            raise ProblemError(404, f"there is no item {item_id[:100]!r} in {service.version.file.id}")
        return _picture(item_id, item.image)


def _picture(item_id: str, image: str) -> Response:
    parts = urlsplit(image)
    if parts.scheme in ("http", "https"):
        return RedirectResponse(image)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(image)
    media_type = images.media_type_at(path)
    if media_type is None:
        raise ProblemError(404, f"the catalogue has no picture of {item_id[:100]!r}: see its image column")
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "public, max-age=3600"})


def _add_readiness(app: FastAPI, service: VersionService) -> None:
    @app.get("/health/ready", summary=READY_SUMMARY, responses=problem_responses(503))
    def ready() -> dict[str, bool | int | str]:
        return {
            "documents": service.ready(),
            "ready": True,
            "features": service.version.features_ready,
            "model_version": service.version.file.id,
        }
