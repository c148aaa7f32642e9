"""Answers searches and inference requests with one model version, and records searches without a gateway."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from immr.events import query_ids, tokens
from immr.experiment.context import Dimensions
from immr.experiment.definition import DIRECT
from immr.machine import cores
from immr.search import facets
from immr.search.pages import Answer, Cursor
from immr.search.searcher import Searcher
from immr.types import Facet, FloatArray, Hit
from immr.wiring import Parts
from serving.bento.inference import InferRequest, read_request
from serving.bento.photo_urls import PhotoUrls, refused
from serving.bento.version import ServedVersion
from serving.process.logs import SEARCHES
from serving.process.metrics import Metrics
from serving.process.recording import Recorder
from serving.wire.admission import IN_PROGRESS_PER_CORE
from serving.wire.problems import FieldProblem, ProblemError, invalid_fields, unavailable
from serving.wire.schemas import HitBody, MemberBody, SearchBody
from serving.wire.search import paging
from serving.wire.search.filters import facet_body, known
from serving.wire.search.paging import Page
from serving.wire.search.regions import RegionBody, RegionsBody, box_text
from serving.wire.search.search_context import context_text
from serving.wire.search.search_request import SearchRequest

searches = logging.getLogger(SEARCHES)

T = TypeVar("T")
MAX_DEPTH = 1000
"""Hits that can be paged through; deeper pages cost the index more, and nobody reads them."""


class VersionService:
    """One version behind HTTP. `start` and `stop` belong to the server's event loop."""

    def __init__(
        self,
        folder: Path,
        parts: Parts,
        threads: int = 1,
        max_in_progress: int | None = None,
        photo_urls: PhotoUrls | None = None,
    ) -> None:
        """Reads the version; `start` opens it.

        Args:
            folder: Contains the version's files, which packaging puts beside the service.
            parts: Has the index, the features, the event log and the token keys.
            threads: Threads per encoding.
            max_in_progress: More searches are refused with 429; by default 8 per core.
            photo_urls: Fetches photos; None refuses searches that name one by URL.
        """
        at_once = cores.usable()
        self.max_in_progress = max_in_progress or IN_PROGRESS_PER_CORE * at_once
        self.version = ServedVersion(folder, parts, threads, at_once)
        self.metrics = Metrics()
        self.home_id = parts.settings.home_id
        self.pictures_dir = parts.settings.pictures_dir
        self._dimensions = Dimensions.parse(parts.settings.context)
        self._parts = parts
        self._keys = parts.token_keys
        self._recorder: Recorder | None = None
        self._photo_urls = photo_urls
        # two per core: while one search is decoded or ranked, the other is encoded
        self._pool = ThreadPoolExecutor(2 * at_once, thread_name_prefix="search")

    async def start(self) -> None:
        """Opens the version in the background."""
        self.version.start()

    async def stop(self) -> None:
        """Finishes the searches in progress, then releases everything."""
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self.version.close)
        if self._photo_urls is not None:
            await asyncio.to_thread(self._photo_urls.close)
        if self._recorder is not None:
            await self._recorder.close()

    @property
    def recorder(self) -> Recorder:
        """Opened on first use: behind a gateway, a Bento records nothing."""
        if self._recorder is None:
            self._recorder = Recorder(self._parts, self.metrics)
        return self._recorder

    async def search(
        self, request: SearchRequest, variant: str, user_key: str = "", user_id: str = ""
    ) -> tuple[SearchBody, Answer]:
        """Answers a search, and records it if it came without a gateway.

        Args:
            request: A valid search.
            variant: The variant named in the click tokens; `direct` without a gateway.
            user_key: The suffix of the query's id, from the gateway.
            user_id: Who searches, from the gateway; by default the request's own.

        Raises:
            ProblemError: 503 while the version is not open, 404 for an unknown item, 400 for a page token, 422 for
                an undeclared context.
            ImageError: the photo cannot be read.
        """
        start = time.perf_counter()
        user_id = user_id or request.fields.user_id or ""
        searcher = self.searcher()
        context = context_text(request.fields.context, self._dimensions) if variant == DIRECT else ""
        if request.fields.image_url is not None:
            request = request.with_photo(await self._photo_at(request.fields.image_url))
        answer, page, found_facets = await self._in_pool(self._answer, searcher, request, user_id)
        now = datetime.now(UTC)
        query_id = query_ids.new_query_id(user_key or query_ids.user_key(user_id))
        first, key = page.wanted.k * page.number + 1, self._keys[0]
        signer = tokens.Signer(key, query_id, variant, self.version.file.id, now)
        body = SearchBody(
            query_id=query_id,
            variant=variant,
            model_version=self.version.file.id,
            hits=[_hit_body(hit, position, signer) for position, hit in enumerate(answer.hits, start=first)],
            degraded=answer.degraded,
            took_ms=1000 * (time.perf_counter() - start),
            facets={name: facet_body(facet) for name, facet in found_facets.items()},
            next_page=self._next_page(answer, page, key),
            match=answer.match,
        )
        recorded_as = user_id or f"{query_ids.ANONYMOUS}{query_id}"
        if variant == DIRECT and not self.recorder.record_search(body, recorded_as, now, context=context):
            body.degraded.append("events")
        for part in body.degraded:
            self.metrics.degraded.labels(part).inc()
        self.metrics.observe({**answer.stage_ms, "total": body.took_ms})
        _log_search(body, answer)
        return body, answer

    async def _photo_at(self, url: str) -> memoryview:
        if self._photo_urls is None:
            raise refused("This server does not fetch photos. Send the photo itself as image")
        return await self._photo_urls.fetch(url)

    async def regions(self, photo: memoryview) -> RegionsBody:
        """Proposes parts of a photo to search for; records nothing.

        Raises:
            ProblemError: 503 while the version is not open.
            ImageError: the photo cannot be read.
        """
        start = time.perf_counter()
        found = await self._in_pool(self.searcher().regions, bytes(photo))
        bodies = [RegionBody(box=box_text(each.region), score=each.score) for each in found]
        return RegionsBody(regions=bodies, took_ms=1000 * (time.perf_counter() - start))

    def _answer(
        self, searcher: Searcher, request: SearchRequest, user_id: str
    ) -> tuple[Answer, Page, dict[str, Facet]]:
        """The hits, their page, and the facets; an empty answer also has those of its filters, which may be why."""
        answer, page = self._page(searcher, request, user_id)
        filters, names = page.wanted.filters, request.fields.facets
        for name in names:
            known("facets", name, searcher.attributes)
        if not answer.hits and page.number == 0:
            names = list(dict.fromkeys([*names, *facets.filtered(filters)]))
        return answer, page, searcher.facets(names, filters) if names else {}

    def _page(self, searcher: Searcher, request: SearchRequest, user_id: str) -> tuple[Answer, Page]:
        """The hits of a search, or of a later page of one, and the page that they are."""
        fields, version = request.fields, self.version.file.id
        if fields.page is not None:
            page = paging.read(fields.page, self._keys, version)
            request.check_continues(page.wanted, searcher.attributes)
            return searcher.page(page.embedding_D, page.wanted, page.cursor, user_id), page
        wanted = request.wanted(searcher.attributes)
        if wanted.text and not searcher.finds_texts:
            message = (
                f"The index of {version} is from an earlier release, without text search. Leave the text out"
            )
            raise invalid_fields([FieldProblem(field="text", message=message)])
        if fields.item_id is None:
            photos = request.photos
            if photos:
                self.metrics.batch_size.observe(len(photos))
            answer = searcher.search(photos, wanted, request.region, user_id)
            return answer, Page(version, 0, wanted, Cursor(), answer.embedding_D)
        similar = searcher.more_like(fields.item_id, wanted)
        if similar is None:
            raise ProblemError(404, f"There is no item {fields.item_id[:100]!r} in {version}.")
        later_pages = replace(wanted, filters=replace(wanted.filters, exclude=fields.item_id))
        return similar, Page(version, 0, later_pages, Cursor(), similar.embedding_D)

    def _next_page(self, answer: Answer, page: Page, key: bytes) -> str | None:
        number = page.number + 1
        if answer.following is None or number * page.wanted.k >= MAX_DEPTH:
            return None
        return paging.sign(replace(page, number=number, cursor=answer.following), key)

    def searcher(self) -> Searcher:
        """The version's search.

        Raises:
            ProblemError: 503 with the reason while it is not open.
        """
        searcher = self.version.searcher
        if searcher is None:
            raise unavailable(self.version.not_ready_because)
        return searcher

    def ready(self) -> int:
        """Returns the number of searchable documents.

        Raises:
            ProblemError: 503 with the reason while searches are not complete.
            IndexUnavailableError: the index is down.
        """
        if reason := self.version.not_ready_because:
            raise unavailable(reason)
        return self.version.count()

    async def embed(self, body: bytes, header_length: str | None) -> tuple[InferRequest, FloatArray]:
        """Answers a request of the Open Inference Protocol; returns it with one unit row per picture.

        Raises:
            ProblemError: 503 while the version is not open, 400 for an invalid request.
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


def _hit_body(hit: Hit, position: int, signer: tokens.Signer) -> HitBody:
    return HitBody(
        item_id=hit.item_id,
        position=position,
        score=hit.score,
        score_parts=dict(hit.score_parts),
        title=hit.title,
        category=hit.category,
        image_url=_image_url(hit.item_id),
        features=hit.features,
        click_token=signer.sign(hit.item_id, position),
        attributes=dict(hit.attributes),
        group=hit.group,
        members=[
            MemberBody(
                item_id=member.item_id,
                title=member.title,
                image_url=_image_url(member.item_id),
                attributes=dict(member.attributes),
            )
            for member in hit.members
        ],
        match=hit.match,
    )


def _image_url(item_id: str) -> str:
    return f"/v1/items/{quote(item_id, safe='')}/image"


def _log_search(body: SearchBody, answer: Answer) -> None:
    if searches.isEnabledFor(logging.INFO):
        fields = body.model_dump(include={"query_id", "variant", "model_version", "degraded"})
        stages = {f"{stage}_ms": round(took_ms, 2) for stage, took_ms in answer.stage_ms.items()}
        searches.info("answered", extra={"fields": {**fields, "hits": len(body.hits), **stages}})
