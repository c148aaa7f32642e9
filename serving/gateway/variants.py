"""Calls the variants over HTTP, with connection pools, a timeout, and a breaker and a limit per address."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError
from yarl import URL

from immr.experiment.definition import Variant
from serving.gateway.breaker import Attempt, CircuitBreaker
from serving.gateway.limit import AdaptiveLimit
from serving.process import tracing
from serving.process.metrics import Metrics
from serving.wire.admission import too_many_requests
from serving.wire.application import media_type
from serving.wire.forms import SearchForm, pick
from serving.wire.problems import PROBLEM_JSON, Problem, ProblemError
from serving.wire.schemas import VARIANT_HEADER, SearchBody
from serving.wire.search.regions import PATH as REGIONS_PATH

log = logging.getLogger(__name__)

_MAX_SEARCHES = 256  # per variant
_PICTURE_CONNECTIONS = 64
_KEEPALIVE_S = 2.0  # less than a Bento's, so that a connection is rarely reused just as it is closed
_REQUESTS_PER_CONNECTION = 16
"""Kubernetes' Service chooses a pod for each connection: with fewer connections than pods, or after a scale-up, kept
connections would leave pods idle. Envoy's `max_requests_per_connection` bounds the same; here it is a mean."""
_REQUEST_ERRORS = frozenset({400, 401, 404, 408, 413, 415, 422, 429, 431})
"""The statuses with which a Bento refuses a request; any other 4xx is from a proxy or an unrelated server."""
INCONCLUSIVE = (401, 429)
"""Statuses that do not show whether the variant is healthy: it may know another caller's key, and its queue
may be full because it hangs."""


class VariantDownError(Exception):
    """A variant gave no valid answer in time; the text is the reason."""


@dataclass(frozen=True, slots=True)
class VariantAnswer:
    """A complete response of a variant."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _Ready(BaseModel):
    """The part of a Bento's readiness that we check."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str


class Variants:
    """The gateway's HTTP client for the variants. `start` and `stop` belong to the server's event loop."""

    def __init__(self, timeout_s: float, metrics: Metrics) -> None:
        """`timeout_s` bounds one answer of a variant."""
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._breakers: dict[
            str, CircuitBreaker
        ] = {}  # by URL, so that a new address starts with a clean one
        self._limits: dict[str, AdaptiveLimit] = {}
        self._searches: aiohttp.ClientSession | None = None
        self._pictures: aiohttp.ClientSession | None = None
        self._requests = itertools.count(1)

    async def start(self) -> None:
        """Opens the connection pools."""
        # unlimited: waiting for a connection would count against the variant, which has its own limit
        self._searches = _pool(0)
        self._pictures = _pool(_PICTURE_CONNECTIONS)

    async def stop(self) -> None:
        """Closes the pools."""
        for pool in (self._searches, self._pictures):
            if pool is not None:
                await pool.close()

    def admit(self, variant: Variant) -> Attempt | None:
        """An attempt to search this variant, unless its breaker forbids it."""
        return self._breaker(variant).admit()

    def is_open(self, variant: Variant) -> bool:
        """Whether the variant's breaker is open. Thread-safe."""
        breaker = self._breakers.get(variant.url)
        return breaker is not None and breaker.is_open

    def keep_only(self, variants: Sequence[Variant]) -> None:
        """Forgets the breakers and limits of all other addresses."""
        urls = {variant.url for variant in variants}
        self._breakers = {url: breaker for url, breaker in self._breakers.items() if url in urls}
        self._limits = {url: limit for url, limit in self._limits.items() if url in urls}

    async def search(
        self, variant: Variant, form: SearchForm, label: str, attempt: Attempt | None = None
    ) -> SearchBody | None:
        """A variant's answer, or None if it failed. Updates its breaker and its limit.

        Args:
            variant: The variant to call.
            form: The search.
            label: The variant named in the click tokens.
            attempt: From `admit`; without one, the variant is called even if its breaker is open.

        Raises:
            ProblemError: the request is invalid; 401 if the variant does not know the caller's key, 429 if it
                is at capacity. While the breaker is open, a 429 counts as a failure: the variant may hang
                with a full queue.
        """
        attempt, limit = attempt or self._breaker(variant).force(), self._limit(variant)
        if not limit.enter():
            attempt.abandoned()
            if attempt.is_open:
                return None
            raise too_many_requests()
        start = time.perf_counter()
        try:
            body = await self._search(variant, form, label)
        except VariantDownError as down:
            attempt.failed()
            log.warning("%s (%s) %s", variant.name, variant.model_version, down)
            self._metrics.errors.labels("variant_down").inc()
            return None
        except ProblemError as error:
            if error.problem.status == 429:
                limit.refused()
                if attempt.is_open:
                    attempt.failed()
                    return None
            if error.problem.status in INCONCLUSIVE:
                attempt.abandoned()
            else:  # the variant is healthy, the request is invalid
                attempt.succeeded()
            raise
        except BaseException:
            attempt.abandoned()
            raise
        else:
            limit.answered()
            attempt.succeeded()
            return body
        finally:
            limit.leave()
            self._metrics.stage_s.labels("forward").observe(time.perf_counter() - start)

    async def picture(self, variant: Variant, item_id: str, headers: Mapping[str, str]) -> VariantAnswer:
        """An item's picture, or a redirect to it.

        Raises:
            ProblemError: the variant has no such picture, or does not know the caller's key.
            VariantDownError: The variant does not answer.
        """
        path = f"/v1/items/{quote(item_id, safe='')}/image"
        answer = await self._request(self._pictures, variant, "GET", path, headers)
        if answer.status >= 400:
            raise _forwarded_problem(answer)
        return answer

    async def regions(self, variant: Variant, form: SearchForm) -> VariantAnswer:
        """The parts of a photo that a variant proposes to search for.

        Raises:
            ProblemError: the photo is invalid, or the variant is at capacity.
            VariantDownError: The variant does not answer.
        """
        answer = await self._request(self._searches, variant, "POST", REGIONS_PATH, form.headers, form.body)
        if answer.status >= 400:
            raise _forwarded_problem(answer)
        return answer

    async def is_ready(self, variant: Variant) -> bool:
        """Whether the variant reports that it is ready, with the version that the experiment names."""
        try:
            answer = await self._request(self._searches, variant, "GET", "/health/ready")
            ready = _Ready.model_validate_json(answer.content)
        except (VariantDownError, ValidationError):
            return False
        return answer.status == 200 and ready.model_version == variant.model_version

    def _breaker(self, variant: Variant) -> CircuitBreaker:
        return self._breakers.setdefault(variant.url, CircuitBreaker())

    def _limit(self, variant: Variant) -> AdaptiveLimit:
        return self._limits.setdefault(variant.url, AdaptiveLimit(_MAX_SEARCHES))

    async def _search(self, variant: Variant, form: SearchForm, label: str) -> SearchBody:
        headers = {VARIANT_HEADER: label, **form.headers}
        path = f"/v1/search?{form.query}" if form.query else "/v1/search"
        answer = await self._request(self._searches, variant, "POST", path, headers, form.body)
        if answer.status >= 400:
            raise _forwarded_problem(answer)
        self._metrics.observe(_stages(answer.headers.get("server-timing", "")))
        try:
            body = SearchBody.model_validate_json(answer.content)
        except ValidationError as error:
            raise VariantDownError("answered with something other than hits: is its URL correct?") from error
        if body.model_version != variant.model_version:
            raise VariantDownError(
                f"answered as {body.model_version}: does its URL belong to another version?"
            )
        return body

    async def _request(
        self,
        pool: aiohttp.ClientSession | None,
        variant: Variant,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> VariantAnswer:
        assert pool is not None, "the gateway has not started"
        url = variant.url.rstrip("/") + path
        if next(self._requests) % _REQUESTS_PER_CONNECTION == 0:
            headers = {**(headers or {}), "Connection": "close"}
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    answer = await _send(pool, method, url, headers, body)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # a stopping process closed the connection as we wrote; all our requests are safe to repeat
                    answer = await _send(pool, method, url, headers, body)
        except TimeoutError as error:
            raise VariantDownError(f"took longer than {self._timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise VariantDownError(f"does not answer ({type(error).__name__})") from error
        if answer.status >= 500:
            raise VariantDownError(f"answered {answer.status}")
        return answer


def _pool(connections: int) -> aiohttp.ClientSession:
    """A pool of this many connections; 0: unlimited."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=tracing.of_client(),
    )


async def _send(
    pool: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None
) -> VariantAnswer:
    data = io.BytesIO(body) if body is not None else None  # aiohttp warns of large bodies in one piece
    request = pool.request(method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False)
    async with request as response:
        return VariantAnswer(response.status, response.headers, await response.read())


def _forwarded_problem(answer: VariantAnswer) -> ProblemError:
    """A variant's 4xx as a problem of the request, or of the load.

    Raises:
        VariantDownError: the answer is not a Bento's, but for example that of an ingress without its service.
    """
    is_problem = media_type(answer.headers.get("content-type", "")) == PROBLEM_JSON
    if not is_problem or answer.status not in _REQUEST_ERRORS:
        raise VariantDownError(
            f"answered {answer.status}, which is not about the request: is its URL correct?"
        )
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError as error:
        raise VariantDownError(f"answered {answer.status} with an unreadable problem") from error
    headers = pick(answer.headers, "retry-after", "www-authenticate")
    return ProblemError(answer.status, problem.detail, errors=problem.errors, headers=headers)


def _stages(server_timing: str) -> dict[str, float]:
    """`encode;dur=12.3, rank;dur=0.1` → milliseconds by stage."""
    found = re.findall(r"([a-z]+);dur=([0-9.]+)", server_timing)
    return {stage: float(took_ms) for stage, took_ms in found}
