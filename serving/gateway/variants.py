"""Asking the variants: pools of connections, a time limit, and for each address a breaker and a limit."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError
from yarl import URL

from immr.experiment.definition import Variant
from serving.gateway.breaker import CircuitBreaker
from serving.gateway.limit import AdaptiveLimit
from serving.process import tracing
from serving.process.metrics import Metrics
from serving.wire.admission import too_many
from serving.wire.application import media_type
from serving.wire.forms import SearchForm, passed_on
from serving.wire.problems import PROBLEM_JSON, Problem, ProblemError
from serving.wire.schemas import VARIANT_HEADER, SearchBody

log = logging.getLogger(__name__)

_MAX_SEARCHES = 256  # of one variant
_PICTURE_CONNECTIONS = 64
_KEEPALIVE_S = 2.0  # less than a Bento's, so that a connection is hardly ever reused just as it closes
_OF_A_REQUEST = frozenset({400, 401, 404, 408, 413, 415, 422, 429, 431})
"""What a Bento says of a request; any other 4xx is of something before it, or in its place."""
SAYS_LITTLE = (401, 429)
"""Of the variant: it may not know a key that others know, and its queue may be full because it hangs."""


class VariantDownError(Exception):
    """A variant that does not answer, in time or at all; its text says how."""


@dataclass(frozen=True, slots=True)
class VariantAnswer:
    """What a variant said, read whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _Ready(BaseModel):
    """Of what a Bento says when it is ready."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str


class Variants:
    """The gateway's side of its variants. `start` and `stop` belong to the server's event loop."""

    def __init__(self, timeout_s: float, metrics: Metrics) -> None:
        """`timeout_s` is how long a variant may take."""
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._breakers: dict[str, CircuitBreaker] = {}  # by url, so that a new address starts afresh
        self._limits: dict[str, AdaptiveLimit] = {}
        self._searches: aiohttp.ClientSession | None = None
        self._pictures: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pools of connections."""
        # a search never waits for a connection, which would count against its variant: it has its limit
        self._searches = _pool(0)
        self._pictures = _pool(_PICTURE_CONNECTIONS)

    async def stop(self) -> None:
        """Close the pools."""
        for pool in (self._searches, self._pictures):
            if pool is not None:
                await pool.close()

    def allows(self, variant: Variant) -> bool:
        """Whether it is worth asking now; True may be the one trial, and wants the question asked."""
        return self._breaker(variant).allows()

    def is_left_alone(self, variant: Variant) -> bool:
        """Whether the last that is known of it is bad. Safe in any thread."""
        breaker = self._breakers.get(variant.url)
        return breaker is not None and breaker.is_open

    def keep_only(self, variants: Sequence[Variant]) -> None:
        """Forget what is known of any other address."""
        urls = {variant.url for variant in variants}
        self._breakers = {url: breaker for url, breaker in self._breakers.items() if url in urls}
        self._limits = {url: limit for url, limit in self._limits.items() if url in urls}

    async def search(self, variant: Variant, form: SearchForm, label: str) -> SearchBody | None:
        """A variant's answer, None where it has none; its breaker learns which.

        One that is left alone and bears no more has none: it may hang with its queue full.

        Raises:
            ProblemError: what it finds wrong with the request; 401 where it does not know the caller's key,
                429 where it bears no more.
        """
        breaker, limit = self._breaker(variant), self._limit(variant)
        if not limit.enter():
            breaker.abandoned()
            if breaker.is_open:
                return None
            raise too_many()
        start = time.perf_counter()
        try:
            body = await self._search(variant, form, label)
        except VariantDownError as down:
            breaker.failed()
            log.warning("%s (%s) %s", variant.name, variant.model_version, down)
            self._metrics.errors.labels("variant_down").inc()
            return None
        except ProblemError as error:
            if error.problem.status == 429:
                limit.refused()
                if breaker.is_open:
                    breaker.failed()
                    return None
            if error.problem.status in SAYS_LITTLE:
                breaker.abandoned()
            else:  # it is well: the request was not
                breaker.succeeded()
            raise
        except BaseException:
            breaker.abandoned()
            raise
        else:
            limit.answered()
            breaker.succeeded()
            return body
        finally:
            limit.leave()
            self._metrics.stage_s.labels("forward").observe(time.perf_counter() - start)

    async def picture(self, variant: Variant, path: str, headers: Mapping[str, str]) -> VariantAnswer:
        """An item's picture, or where it lies.

        Raises:
            ProblemError: it has none, or does not know the caller's key.
            VariantDownError: it does not answer.
        """
        answer = await self._request(self._pictures, variant, "GET", path, headers)
        if answer.status >= 400:
            raise _their_problem(answer)
        return answer

    async def is_ready(self, variant: Variant) -> bool:
        """Whether it says so itself, and is the version that the experiment names."""
        try:
            answer = await self._request(self._searches, variant, "GET", "/health/ready")
            told = _Ready.model_validate_json(answer.content)
        except (VariantDownError, ValidationError):
            return False
        return answer.status == 200 and told.model_version == variant.model_version

    def _breaker(self, variant: Variant) -> CircuitBreaker:
        return self._breakers.setdefault(variant.url, CircuitBreaker())

    def _limit(self, variant: Variant) -> AdaptiveLimit:
        return self._limits.setdefault(variant.url, AdaptiveLimit(_MAX_SEARCHES))

    async def _search(self, variant: Variant, form: SearchForm, label: str) -> SearchBody:
        headers = {VARIANT_HEADER: label, **form.headers}
        answer = await self._request(self._searches, variant, "POST", "/v1/search", headers, form.body)
        if answer.status >= 400:
            raise _their_problem(answer)
        self._metrics.observe(_stages(answer.headers.get("server-timing", "")))
        try:
            body = SearchBody.model_validate_json(answer.content)
        except ValidationError as error:
            raise VariantDownError("answers with something else than hits: is its url right?") from error
        if body.model_version != variant.model_version:
            raise VariantDownError(f"answers as {body.model_version}: is its url of another version by now?")
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
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    answer = await _send(pool, method, url, headers, body)
                except aiohttp.ClientConnectorError:
                    raise
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    # closed as we wrote, by a process that stops: what we ask may be asked twice
                    answer = await _send(pool, method, url, headers, body)
        except TimeoutError as error:
            raise VariantDownError(f"took longer than {self._timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise VariantDownError(f"is not there ({type(error).__name__})") from error
        if answer.status >= 500:
            raise VariantDownError(f"answered {answer.status}")
        return answer


def _pool(connections: int) -> aiohttp.ClientSession:
    """So many at once; 0: as many as are wanted."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=_KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=tracing.of_client(),
    )


async def _send(
    pool: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None
) -> VariantAnswer:
    data = io.BytesIO(body) if body is not None else None  # aiohttp wants large bodies in pieces
    request = pool.request(method, URL(url, encoded=True), data=data, headers=headers, allow_redirects=False)
    async with request as response:
        return VariantAnswer(response.status, response.headers, await response.read())


def _their_problem(answer: VariantAnswer) -> ProblemError:
    """The variant's 4xx as ours: it is about the request, or the load.

    Raises:
        VariantDownError: it is not what a Bento says of a request: an ingress does where its service is gone.
    """
    is_problem = media_type(answer.headers.get("content-type", "")) == PROBLEM_JSON
    if not is_problem or answer.status not in _OF_A_REQUEST:
        raise VariantDownError(f"answered {answer.status}, which is not about the request: is its url right?")
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError as error:
        raise VariantDownError(f"answered {answer.status} with a problem that cannot be read") from error
    headers = passed_on(answer.headers, "retry-after", "www-authenticate")
    return ProblemError(answer.status, problem.detail, errors=problem.errors, headers=headers)


def _stages(server_timing: str) -> dict[str, float]:
    """`encode;dur=12.3, rank;dur=0.1` → milliseconds by stage."""
    found = re.findall(r"([a-z]+);dur=([0-9.]+)", server_timing)
    return {stage: float(took_ms) for stage, took_ms in found}
