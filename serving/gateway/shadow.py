"""Shadow mode: the challenger gets a copy of each search; its answers are logged, and no shopper waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from immr.experiment.definition import Variant
from serving.gateway.variants import Variants
from serving.process.metrics import Metrics
from serving.wire.forms import SearchForm
from serving.wire.problems import ProblemError

log = logging.getLogger(__name__)

LABEL = "shadow"
MAX_WAITING = 32
MAX_WAITING_BYTES = 64 * 2**20
"""Of the bodies, which may have 10 MB each."""
_WORKERS = 4


@dataclass(frozen=True, slots=True)
class _Copy:
    variant: Variant
    form: SearchForm
    query_id: str
    shown: Sequence[str]  # item_ids, best first


class Shadow:
    """A short queue of copies; the overflow is dropped. For one event loop."""

    def __init__(self, variants: Variants, metrics: Metrics) -> None:
        self._variants = variants
        self._metrics = metrics
        self._copies: asyncio.Queue[_Copy] = asyncio.Queue(MAX_WAITING)
        self._waiting_bytes = 0
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the workers."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]

    async def stop(self) -> None:
        """Stops the workers and drops the queue."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def copy(self, variant: Variant, form: SearchForm, query_id: str, shown: Sequence[str]) -> None:
        """Queues a copy of a search for this variant; `shown` are the items that the shopper got."""
        size = len(form.body)
        if self._copies.full() or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._metrics.shadow.labels("left_out").inc()
        else:
            self._waiting_bytes += size
            self._copies.put_nowait(_Copy(variant, form, query_id, shown))

    async def _work(self) -> None:
        while True:
            copy = await self._copies.get()
            self._waiting_bytes -= len(copy.form.body)
            try:
                await self._ask(copy)
            except Exception:  # any error: without its workers, shadow mode would end unnoticed
                log.exception("a shadow search failed")
                self._metrics.shadow.labels("failed").inc()

    async def _ask(self, copy: _Copy) -> None:
        attempt = self._variants.admit(copy.variant)
        if attempt is None:
            self._metrics.shadow.labels("left_out").inc()
            return
        try:
            answer = await self._variants.search(copy.variant, copy.form, LABEL, attempt)
        except ProblemError:
            answer = None
        if answer is None:
            self._metrics.shadow.labels("failed").inc()
            return
        found = [hit.item_id for hit in answer.hits]
        overlap = len(set(found) & set(copy.shown)) / max(len(found), len(copy.shown), 1)
        self._metrics.shadow.labels("answered").inc()
        self._metrics.shadow_overlap.observe(overlap)
        fields = {
            "query_id": copy.query_id,
            "model_version": answer.model_version,
            "overlap": round(overlap, 3),
            "took_ms": round(answer.took_ms, 1),
            "shown": list(copy.shown),
            "found": found,
        }
        log.info("shadow", extra={"fields": fields})
