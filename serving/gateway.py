"""The A/B gateway: gives every user one variant, asks its Bento, and records what was shown and clicked.

`python -m serving.gateway --port 8080`; where the variants are stands in the experiment file.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

import httpx
from fastapi import Cookie, Depends, FastAPI, File, Header, Response, UploadFile
from pydantic import ValidationError
from starlette.middleware import Middleware
from starlette.types import Scope

from immr.errors import ExperimentError, ImmrError
from immr.events.photos import PhotoStore
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment, ExperimentWatcher, Variant
from immr.settings import Settings
from serving.admission import Admission
from serving.breaker import CircuitBreaker
from serving.http import (
    EVENTS_DESCRIPTION,
    PREVIEW,
    PROBLEM_JSON,
    VARIANT_HEADER,
    CategoryField,
    EventsAnswer,
    EventsBody,
    KField,
    ProblemError,
    SearchBody,
    UserField,
    create_app,
    problem_responses,
    require_json,
    require_multipart,
    unavailable,
)
from serving.metrics import Metrics
from serving.recording import Recorder

log = logging.getLogger(__name__)

TIMEOUT_S = 3.0
MAX_UNDER_WAY = 256  # more than a Bento's: whoever waits for a slow variant must not keep out the others
USER_COOKIE = "immr_user"
_COOKIE_FORM = re.compile(r"[0-9a-f]{32}")
_COOKIE_AGE_S = 365 * 24 * 3600
_KEEPALIVE_S = 2.0  # less than a Bento's, so that a connection is never reused just as it closes
_PASSED_ON = ("content-type", "cache-control", "etag", "last-modified", "location")


class VariantDownError(Exception):
    """A variant that does not answer, in time or at all; its text says how."""


@dataclass(frozen=True)
class Photo:
    """One search, as it is sent on to a variant."""

    image: bytes
    fields: dict[str, str]


class Gateway:
    """Assignment, forwarding with fallback, recording. `start` and `stop` belong to the server."""

    def __init__(
        self, settings: Settings, timeout_s: float = TIMEOUT_S, max_under_way: int = MAX_UNDER_WAY
    ) -> None:
        """`timeout_s` is how long a variant may take before the champion is asked instead.

        Over `max_under_way` searches at once are refused with 429.
        """
        self.max_under_way = max_under_way
        self._breakers: dict[str, CircuitBreaker] = {}  # by url, so that a new address starts afresh
        self.metrics = Metrics()
        self.recorder = Recorder(settings, self.metrics)
        self._photos = PhotoStore(settings.photos_dir) if settings.keep_photos else None
        self._experiment_file = settings.experiment_file
        self._timeout_s = timeout_s
        self._watcher: ExperimentWatcher | None = None
        self._watcher_lock = threading.Lock()
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        limits = httpx.Limits(max_connections=MAX_UNDER_WAY, keepalive_expiry=_KEEPALIVE_S)
        self._client = httpx.AsyncClient(limits=limits, timeout=self._timeout_s, trust_env=False)

    async def stop(self) -> None:
        """Finish what is under way, then close."""
        await self.client.aclose()
        await self.recorder.close()

    @property
    def client(self) -> httpx.AsyncClient:
        """The pool; only between `start` and `stop`."""
        assert self._client is not None, "the gateway has not started"
        return self._client

    def experiment(self) -> Experiment:
        """The experiment as its file has it now.

        Raises:
            ProblemError: 503 while there is no valid one.
        """
        try:
            with self._watcher_lock:
                self._watcher = self._watcher or ExperimentWatcher(self._experiment_file)
            return self._watcher.current()
        except ExperimentError as error:
            self.metrics.errors.labels("experiment").inc()
            raise unavailable(str(error)) from error

    async def search(self, photo: Photo, user_id: str, preview: bool) -> SearchBody:
        """Answer by the user's variant, or by another where that one cannot; record unless it is a preview.

        Raises:
            ProblemError: what the variant finds wrong with the photo; 503 where no variant answers.
        """
        start = time.perf_counter()
        experiment = self.experiment()
        assigned = assign(experiment, user_id)
        label = PREVIEW if preview else assigned.name
        body, fallback = await self._first_answer(_in_order(experiment, assigned), photo, label)
        body.took_ms = 1000 * (time.perf_counter() - start)
        for part in body.degraded:
            self.metrics.degraded.labels(part).inc()
        if not preview:
            with self._stage("record"):
                recorded = self.recorder.search(body, user_id, datetime.now(UTC), fallback)
            if not recorded:
                body.degraded.append("events")
            if self._photos is not None:
                await asyncio.to_thread(self._keep, self._photos, body.query_id, photo)
        self.metrics.observe({"total": 1000 * (time.perf_counter() - start)})
        return body

    def _keep(self, photos: PhotoStore, query_id: str, photo: Photo) -> None:
        try:
            photos.keep(query_id, photo.image)
        except OSError as error:
            log.error("a photo was not kept: %s", error)
            self.metrics.errors.labels("photos").inc()

    async def picture(self, item_id: str) -> Response:
        """An item's picture, from the first variant that has it."""
        path = f"/v1/items/{quote(item_id, safe='')}/image"
        experiment = self.experiment()
        answer: httpx.Response | None = None
        variants = _in_order(experiment, experiment.champion)
        for variant in sorted(variants, key=lambda variant: self._breaker(variant).is_open):
            try:
                answer = await self._ask(variant, "GET", path)
            except VariantDownError:
                continue
            if answer.status_code < 400:
                break
        if answer is None:
            raise unavailable("no variant answers now: try again in a moment")
        headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        return Response(answer.content, answer.status_code, headers)

    async def readiness(self) -> dict[str, bool]:
        """Which variants are ready."""
        experiment = self.experiment()
        states = await asyncio.gather(*(self._is_ready(variant) for variant in experiment.variants))
        return {variant.name: state for variant, state in zip(experiment.variants, states, strict=True)}

    async def _first_answer(
        self, variants: list[Variant], photo: Photo, label: str
    ) -> tuple[SearchBody, bool]:
        asked = False
        for variant in variants:
            if self._breaker(variant).allows():
                asked = True
                if body := await self._search_or_none(variant, photo, label):
                    return body, variant != variants[0]
        # where every one is left alone, asking is no worse than refusing
        for variant in variants if not asked else []:
            if body := await self._search_or_none(variant, photo, label):
                return body, variant != variants[0]
        self.metrics.errors.labels("all_down").inc()
        raise unavailable("no variant answers now: try again in a moment")

    async def _search_or_none(self, variant: Variant, photo: Photo, label: str) -> SearchBody | None:
        """A variant's answer, None where it has none; its breaker learns which."""
        breaker = self._breaker(variant)
        try:
            with self._stage("forward"):
                body = await self._search_at(variant, photo, label)
        except VariantDownError as down:
            breaker.failed()
            log.warning("%s (%s) %s", variant.name, variant.model_version, down)
            self.metrics.errors.labels("variant_down").inc()
            return None
        except ProblemError:  # it is well, the request was not
            breaker.succeeded()
            raise
        except BaseException:
            breaker.abandoned()
            raise
        finally:
            self.metrics.breaker_open.labels(variant.name).set(breaker.is_open)
        breaker.succeeded()
        self.metrics.breaker_open.labels(variant.name).set(0)
        return body

    def _breaker(self, variant: Variant) -> CircuitBreaker:
        return self._breakers.setdefault(variant.url, CircuitBreaker())

    async def _search_at(self, variant: Variant, photo: Photo, label: str) -> SearchBody:
        answer = await self._ask(
            variant,
            "POST",
            "/v1/search",
            headers={VARIANT_HEADER: label},
            files={"image": ("photo", photo.image, "application/octet-stream")},
            data=photo.fields,
        )
        if answer.status_code >= 400:
            raise _their_problem(answer)
        self.metrics.observe(_stages(answer.headers.get("server-timing", "")))
        try:
            return SearchBody.model_validate_json(answer.content)
        except ValidationError as error:
            raise VariantDownError("answers with something else than hits: is its url right?") from error

    async def _ask(self, variant: Variant, method: str, path: str, **options: object) -> httpx.Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self.client.request(method, variant.url.rstrip("/") + path, **options)  # type: ignore[arg-type]
        except (TimeoutError, httpx.TimeoutException) as error:
            raise VariantDownError(f"took longer than {self._timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise VariantDownError(f"is not there ({type(error).__name__})") from error
        if answer.status_code >= 500:
            raise VariantDownError(f"answered {answer.status_code}")
        return answer

    async def _is_ready(self, variant: Variant) -> bool:
        try:
            return (await self._ask(variant, "GET", "/health/ready")).status_code == 200
        except VariantDownError:
            return False

    @contextmanager
    def _stage(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.metrics.stage_s.labels(stage).observe(time.perf_counter() - start)


def _in_order(experiment: Experiment, assigned: Variant) -> list[Variant]:
    """The assigned variant, then the champion, then any other."""
    wanted = [assigned, experiment.champion, *experiment.variants]
    return list(dict.fromkeys(wanted))


def _their_problem(answer: httpx.Response) -> ProblemError:
    """The variant's 4xx as ours: gateway and Bento check the same, so it is about the photo, or the load."""
    detail = "the photo was not accepted: send a JPEG, PNG, WebP, GIF or BMP"
    if answer.headers.get("content-type", "").startswith(PROBLEM_JSON):
        detail = str(answer.json().get("detail", detail))
    retry_after = answer.headers.get("retry-after")
    headers = {"Retry-After": retry_after} if retry_after else {}
    return ProblemError(answer.status_code, detail, headers=headers)


def _stages(server_timing: str) -> dict[str, float]:
    """`encode;dur=12.3, rank;dur=0.1` → milliseconds by stage."""
    found = re.findall(r"([a-z]+);dur=([0-9.]+)", server_timing)
    return {stage: float(took_ms) for stage, took_ms in found}


def create_gateway_app(gateway: Gateway) -> FastAPI:
    """The application around a gateway, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        yield
        await gateway.stop()

    app = create_app(
        "IMMR gateway",
        "Visual search, A/B-tested: a photo in, items out, clicks back.",
        inner=[
            Middleware(Admission, is_work=_posts("/v1/search"), max_under_way=gateway.max_under_way),
            Middleware(Admission, is_work=_posts("/v1/events"), max_under_way=gateway.max_under_way),
        ],
        lifespan=lifespan,
    )
    gateway.metrics.attach(app)
    _add_search(app, gateway)
    _add_events(app, gateway)
    _add_images(app, gateway)
    _add_health(app, gateway)
    return app


def _posts(path: str) -> Callable[[Scope], bool]:
    return lambda scope: scope["method"] == "POST" and scope["path"] == path


def _add_search(app: FastAPI, gateway: Gateway) -> None:
    @app.post(
        "/v1/search",
        summary="Find the items that a photo shows",
        responses=problem_responses(400, 408, 413, 415, 422, 429, 503),
        dependencies=[Depends(require_multipart)],
    )
    async def search(
        response: Response,
        image: Annotated[UploadFile, File(description="A JPEG, PNG, WebP, GIF or BMP, up to 10 MB.")],
        k: KField = 10,
        user_id: UserField = None,
        category: CategoryField = None,
        cookie: Annotated[str, Cookie(alias=USER_COOKIE, description="Stands in for user_id.")] = "",
        variant: Annotated[
            str, Header(alias=VARIANT_HEADER, description="`preview` is recorded nowhere; else ignored.")
        ] = "",
    ) -> SearchBody:
        fields = {"k": str(k)} | ({"category": category} if category else {})
        user = user_id or (cookie if _COOKIE_FORM.fullmatch(cookie) else "")
        if not user:
            user = uuid.uuid4().hex
            response.set_cookie(USER_COOKIE, user, _COOKIE_AGE_S, httponly=True, samesite="lax")
        return await gateway.search(Photo(await image.read(), fields), user, preview=variant == PREVIEW)


def _add_events(app: FastAPI, gateway: Gateway) -> None:
    @app.post(
        "/v1/events",
        summary="Tell what a shopper did with hits",
        description=EVENTS_DESCRIPTION,
        responses=problem_responses(400, 408, 413, 415, 422, 429, 503),
        dependencies=[Depends(require_json)],
    )
    async def events(body: EventsBody) -> EventsAnswer:
        return await gateway.recorder.events(body.events)


def _add_images(app: FastAPI, gateway: Gateway) -> None:
    @app.get(
        "/v1/items/{item_id:path}/image",
        summary="An item's catalogue picture",
        response_class=Response,
        responses={
            200: {"content": {"image/*": {}}, "description": "The picture"},
            307: {"description": "The picture lies elsewhere"},
            **problem_responses(404, 422, 503),
        },
    )
    async def item_image(item_id: str) -> Response:
        return await gateway.picture(item_id)


def _add_health(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/health/live", summary="Whether the process runs")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get(
        "/health/ready",
        summary="Whether searches can be answered, else why not",
        responses=problem_responses(503),
    )
    async def ready() -> dict[str, bool | dict[str, bool]]:
        variants = await gateway.readiness()
        if not any(variants.values()):
            raise unavailable(f"no variant is ready: {', '.join(variants)}; look at their /health/ready")
        return {"ready": True, "variants": variants}


def main() -> int:
    """Serve until SIGINT or SIGTERM; requests under way are finished."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m serving.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="how long a variant may take")
    parser.add_argument(
        "--max-under-way", type=int, default=MAX_UNDER_WAY, help="searches at once; more are refused with 429"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        app = create_gateway_app(Gateway(Settings(), arguments.timeout_s, arguments.max_under_way))
    except ImmrError as error:
        print(error, file=sys.stderr)
        return 1
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
