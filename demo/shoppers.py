"""Simulated shoppers: photos in, clicks back, through the real HTTP endpoints (ours).

A shopper makes one to three searches, and examines the hit at position p with probability p^-η (the
position-based click model, which governance corrects for). A shopper's behaviour depends on (seed, shopper,
search) and the hits alone, so that neither order nor concurrency changes it.
"""

from __future__ import annotations

import array
import asyncio
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from immr.errors import DeployError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (shoppers done, all shoppers) after each shopper."""

_BOUNDARY = "immr-shopper-photo"
_MEDIA_TYPES = {".png": "image/png", ".webp": "image/webp"}
_BUSY = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class ShopperPhoto:
    """A photo, with the item and category that it really shows."""

    path: Path
    item_id: str
    category: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How shoppers search, examine and click. Every value but `position_bias` (η) and `k` is a probability."""

    k: int = 10
    search_again: float = 0.36  # after each search, up to three: 1.49 searches on average
    position_bias: float = 1.0  # η: position p is examined with probability p^-η
    click_right: float = 0.8
    click_same_category: float = 0.06
    click_other: float = 0.01
    order: float = 0.3  # after a click on the right item


@dataclass(frozen=True, slots=True)
class ShoppingReport:
    """What the shoppers did and how long they waited, measured on their side."""

    shoppers: int
    searches: int
    clicks: int
    orders: int
    errors: int  # searches and event batches without a successful answer
    retries: int
    degraded: int  # searches answered without item features
    searches_by_variant: Mapping[str, int]
    latency_p50_ms: float
    latency_p99_ms: float
    seconds: float


@dataclass(slots=True)
class _Tally:
    searches: int = 0
    clicks: int = 0
    orders: int = 0
    errors: int = 0
    retries: int = 0
    degraded: int = 0
    by_variant: Counter[str] = field(default_factory=Counter)
    latencies_ms: array.array[float] = field(default_factory=lambda: array.array("f"))


def play(
    gateway_url: str,
    photos: Sequence[ShopperPhoto],
    shoppers: int = 2000,
    seed: int = 0,
    concurrency: int = 4,
    progress: Progress | None = None,
    behaviour: Behaviour | None = None,
) -> ShoppingReport:
    """Let simulated shoppers search, click and order.

    Args:
        gateway_url: Base URL of `/v1/search` and `/v1/events`.
        photos: The photos to search with, all equally likely.
        shoppers: How many; their ids are `shopper-0001` and so on.
        seed: Another seed gives other shoppers.
        concurrency: How many shop at the same time.
        progress: Called after each shopper.
        behaviour: How they examine and click.

    Raises:
        ValueError: There are no photos.
        DeployError: No search was answered, or the gateway stopped answering.
    """
    if not photos:
        raise ValueError("shoppers need at least one photo")
    shop = _Shop(gateway_url.rstrip("/"), photos, seed, behaviour or Behaviour())
    return asyncio.run(shop.open(shoppers, concurrency, progress or _silent))


def searches_of(seed: int, shopper: int, photos: int, behaviour: Behaviour) -> list[int]:
    """The indices of the one to three photos that a shopper searches with, in order."""
    dice = random.Random(f"{seed}/{shopper}")
    chosen = [dice.randrange(photos)]
    while len(chosen) < 3 and dice.random() < behaviour.search_again:
        chosen.append(dice.randrange(photos))
    return chosen


def react(
    photo: ShopperPhoto, hits: Sequence[Mapping[str, Any]], dice: random.Random, behaviour: Behaviour
) -> list[tuple[str, str]]:
    """A shopper's actions on hits, best first: (`click` or `order`, click token) pairs.

    Each position draws three numbers whatever it shows, so that both versions face the same random numbers.
    """
    actions: list[tuple[str, str]] = []
    for position, hit in enumerate(hits, start=1):
        look, click, order = dice.random(), dice.random(), dice.random()
        if look >= position**-behaviour.position_bias:
            continue
        right = hit["item_id"] == photo.item_id
        if click < _click_probability(photo, hit, right, behaviour):
            actions.append(("click", hit["click_token"]))
            if right and order < behaviour.order:
                actions.append(("order", hit["click_token"]))
    return actions


def _click_probability(
    photo: ShopperPhoto, hit: Mapping[str, Any], right: bool, behaviour: Behaviour
) -> float:
    if right:
        return behaviour.click_right
    return behaviour.click_same_category if hit["category"] == photo.category else behaviour.click_other


class _Shop:
    """One run: a client, a tally, and a limited number of concurrent shoppers."""

    attempts = 6
    first_wait_s = 0.1
    max_failures_in_a_row = 20  # then the gateway is considered down

    def __init__(self, url: str, photos: Sequence[ShopperPhoto], seed: int, behaviour: Behaviour) -> None:
        self.url, self.photos, self.seed, self.behaviour = url, photos, seed, behaviour
        self.tally = _Tally()
        self.failures_in_a_row, self.last_error = 0, ""

    async def open(self, shoppers: int, concurrency: int, progress: Progress) -> ShoppingReport:
        """Run all shoppers and report."""
        started = time.perf_counter()
        queue = iter(range(1, shoppers + 1))
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        done = 0

        async def serve(queue: Iterator[int]) -> None:
            nonlocal done
            for shopper in queue:
                if self.failures_in_a_row >= self.max_failures_in_a_row:
                    return
                await self._shop(shopper)
                done += 1
                progress(done, shoppers)

        async with httpx.AsyncClient(
            base_url=self.url, limits=limits, timeout=30.0, trust_env=False
        ) as client:
            self.client = client
            async with asyncio.TaskGroup() as group:
                for _ in range(max(1, min(concurrency, shoppers))):
                    group.create_task(serve(queue))
        return self._report(shoppers, time.perf_counter() - started)

    async def _shop(self, shopper: int) -> None:
        for number, photo in enumerate(
            searches_of(self.seed, shopper, len(self.photos), self.behaviour), start=1
        ):
            dice = random.Random(f"{self.seed}/{shopper}/{number}")
            answer = await self._search(shopper, self.photos[photo])
            if answer is not None:
                await self._send(react(self.photos[photo], answer["hits"], dice, self.behaviour))

    async def _search(self, shopper: int, photo: ShopperPhoto) -> dict[str, Any] | None:
        body = _search_body(photo.path, f"shopper-{shopper:04d}", self.behaviour.k)
        started = time.perf_counter()
        response = await self._post("/v1/search", body, f"multipart/form-data; boundary={_BOUNDARY}")
        if response is None:
            return None
        answer: dict[str, Any] = json.loads(response.content)
        self.tally.latencies_ms.append((time.perf_counter() - started) * 1000)
        self.tally.searches += 1
        self.tally.degraded += bool(answer["degraded"])
        self.tally.by_variant[answer["variant"]] += 1
        return answer

    async def _send(self, actions: Sequence[tuple[str, str]]) -> None:
        if not actions:
            return
        now = datetime.now(UTC).isoformat()
        events = [{"type": action, "click_token": token, "ts": now} for action, token in actions]
        if await self._post("/v1/events", json.dumps({"events": events}).encode(), "application/json"):
            self.tally.clicks += sum(action == "click" for action, _ in actions)
            self.tally.orders += sum(action == "order" for action, _ in actions)

    async def _post(self, path: str, body: bytes, content_type: str) -> httpx.Response | None:
        """Post, with exponential backoff while the service is busy or down; None after the last attempt."""
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                self.tally.retries += 1
                await asyncio.sleep(self.first_wait_s * 2 ** (attempt - 1))
            try:
                response = await self.client.post(path, content=body, headers={"content-type": content_type})
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if response.is_success:
                self.failures_in_a_row = 0
                return response
            reason = f"{response.status_code}: {response.text[:300]}"
            if response.status_code not in _BUSY:
                break
        self.tally.errors += 1
        self.failures_in_a_row += 1
        self.last_error = f"{path} answered {reason}"
        if self.tally.errors <= 3:
            log.warning("a shopper's request failed: %s", self.last_error)
        return None

    def _report(self, shoppers: int, seconds: float) -> ShoppingReport:
        tally = self.tally
        if self.failures_in_a_row >= self.max_failures_in_a_row or (shoppers and not tally.searches):
            raise DeployError(
                f"the gateway at {self.url} stopped answering after {tally.searches} searches "
                f"({self.last_error}); read its log, then start it again"
            )
        latencies_ms = sorted(tally.latencies_ms)
        return ShoppingReport(
            shoppers=shoppers,
            searches=tally.searches,
            clicks=tally.clicks,
            orders=tally.orders,
            errors=tally.errors,
            retries=tally.retries,
            degraded=tally.degraded,
            searches_by_variant=dict(sorted(tally.by_variant.items())),
            latency_p50_ms=_quantile(latencies_ms, 0.50),
            latency_p99_ms=_quantile(latencies_ms, 0.99),
            seconds=seconds,
        )


def _search_body(path: Path, user_id: str, k: int) -> bytes:
    """The multipart form, joined from cached parts: httpx would encode the photo again for each search."""
    fields = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("user_id", user_id), ("k", str(k)))
    )
    return fields.encode() + _photo_part(path)


@lru_cache(maxsize=2000)
def _photo_part(path: Path) -> bytes:
    media_type = _MEDIA_TYPES.get(path.suffix.lower(), "image/jpeg")
    head = (
        f"--{_BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="image"; filename="photo{path.suffix.lower()}"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    return head.encode() + path.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Nearest-rank quantile of ascending values; 0 without values."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else 0.0


def _silent(done: int, total: int) -> None:
    """Ignore progress."""
