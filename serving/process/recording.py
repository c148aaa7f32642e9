"""Records what was shown and clicked in the event log.

A search is answered once its record is in the journal on this machine's disk; a thread delivers it to the
log. A click is answered once the log has it or, while the log is down, once it is safely on disk.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from immr.errors import EventLogError, TokenError
from immr.events import tokens
from immr.events.delivery import Delivery
from immr.events.journal import MAX_WAITING_BYTES, EventJournal
from immr.events.journal_entries import Clicked, Shown
from immr.experiment.definition import PREVIEW
from immr.types import Click, SearchRecord
from immr.wiring import Parts
from serving.process.metrics import Metrics
from serving.wire.problems import ProblemError, unavailable
from serving.wire.schemas import EventBody, EventsAnswer, Rejected, SearchBody

log = logging.getLogger(__name__)

TOKEN_MAX_AGE = timedelta(hours=24)
"""A later click would not be joined to its impression anyway."""
_CLOCK_SKEW = timedelta(minutes=5)
_LOG_TIMEOUT_S = 2.0


class Recorder:
    """Records searches and clicks. May be shared within one event loop."""

    def __init__(self, parts: Parts, metrics: Metrics, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        """While the log is down, up to `max_waiting_bytes` wait in `waiting_events_dir`.

        While that folder is not writable, nothing is recorded.
        """
        self._keys = parts.token_keys
        self._parts = parts
        self._metrics = metrics
        self._max_waiting_bytes = max_waiting_bytes
        self._opened: Delivery | None = None
        metrics.events_waiting_bytes.set_function(lambda: self._opened.waiting_bytes if self._opened else 0)
        try:
            self._delivery()  # now, to deliver the events of an earlier process
        except EventLogError as error:
            log.error("nothing is recorded: %s", error)

    def record_search(
        self,
        answer: SearchBody,
        user_id: str,
        now: datetime,
        fallback: bool = False,
        versions: tuple[str, ...] = (),
        context: str = "",
    ) -> bool:
        """Records a search and its impressions.

        Args:
            answer: What the user was shown.
            user_id: Who searched.
            now: When.
            fallback: Whether another variant answered for the user's own.
            versions: The model version of each hit, if the answer is interleaved.
            context: Of the search, see `serving.wire.search.search_context`.

        Returns:
            Whether it was recorded. The user is answered in any case.
        """
        search = SearchRecord(
            query_id=answer.query_id,
            user_id=user_id,
            ts=now,
            variant=answer.variant,
            model_version=answer.model_version,
            took_ms=answer.took_ms,
            results=len(answer.hits),
            degraded=bool(answer.degraded),
            fallback=fallback,
            context=context,
        )
        items = tuple((hit.item_id, hit.position) for hit in answer.hits)
        try:
            self._delivery().shown(Shown(search, items, versions))
        except EventLogError as error:
            log.error("a search was not recorded: %s", error)
            self._metrics.errors.labels("event_log").inc()
            return False
        counts = Counter(versions) if versions else {answer.model_version: len(items)}
        for version, count in counts.items():
            self._metrics.impressions.labels(answer.variant, version).inc(count)
        return True

    async def record_events(self, events: Sequence[EventBody]) -> EventsAnswer:
        """Verifies and records clicks and orders.

        Raises:
            ProblemError: 422 if no event is valid, 503 if they cannot be recorded.
        """
        now = datetime.now(UTC)
        clicks: dict[str, tuple[Click, tokens.ClickToken]] = {}
        rejected: list[Rejected] = []
        for index, event in enumerate(events):
            try:
                token = self._verify(event, now)
            except TokenError as error:
                rejected.append(Rejected(index=index, reason=str(error)))
            else:
                click = tokens.to_click(token, event.type, min(_aware(event.ts), now), event.amount)
                clicks.setdefault(click.event_id, (click, token))
        if rejected:
            self._metrics.errors.labels("event_rejected").inc(len(rejected))
        if len(rejected) == len(events):
            detail = f"No event is valid. The first was rejected because: {rejected[0].reason}"
            raise ProblemError(422, detail, rejected=rejected)
        accepted, waiting = await self._append(clicks.values())
        duplicates = len(events) - len(rejected) - accepted
        return EventsAnswer(accepted=accepted, duplicates=duplicates, waiting=waiting, rejected=rejected)

    async def close(self) -> None:
        """Delivers the waiting events if the log is up, and closes it."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close)

    def _delivery(self) -> Delivery:
        """Opens the journal on first use: a Bento on a cluster has no writable folder, and needs none.

        Raises:
            EventLogError: the folder is not writable.
        """
        if self._opened is None:
            journal = EventJournal(self._parts.settings.waiting_events_dir, self._max_waiting_bytes)
            self._opened = Delivery(
                self._parts.open_events,
                journal,
                self._count_clicks,
                on_refused=self._metrics.errors.labels("event_refused").inc,
            )
        return self._opened

    def _verify(self, event: EventBody, now: datetime) -> tokens.ClickToken:
        token = tokens.verify(self._keys, event.click_token, now, TOKEN_MAX_AGE)
        if token.variant == PREVIEW:
            raise TokenError("the click token is from a preview, whose clicks are not counted")
        if not token.issued - _CLOCK_SKEW <= _aware(event.ts) <= now + _CLOCK_SKEW:
            raise TokenError(
                f"ts {event.ts.isoformat()} is before the search or in the future: send the event's time "
                "with its time zone (UTC is assumed without one)"
            )
        return token

    async def _append(self, clicks: Iterable[tuple[Click, tokens.ClickToken]]) -> tuple[int, int]:
        """Records clicks; returns how many count as accepted, and how many of those wait on disk.

        One write per kind of event, because the log reports how many events are new, not which.
        """
        kinds: dict[tuple[str, str, str], list[Click]] = {}
        for click, token in clicks:
            kinds.setdefault((click.type, token.variant, token.model_version), []).append(click)
        counts: dict[Future[int], int] = {}
        try:
            delivery = self._delivery()
            for (_, variant, version), same_kind in kinds.items():
                clicked = Clicked(tuple(same_kind), uuid.uuid4().hex, variant, version)
                counts[delivery.clicked(clicked)] = len(same_kind)
            if not delivery.away_because:
                await _wait_briefly(counts)
            if not all(future.done() for future in counts):
                await asyncio.to_thread(delivery.sync)
        except EventLogError as error:
            log.error("events were not recorded: %s", error)
            self._metrics.errors.labels("event_log").inc()
            raise unavailable("Events cannot be recorded now. Send the same events again.") from error
        # read the futures once: more may complete at any moment
        new = {future: future.result() for future in counts if future.done()}
        waiting = sum(count for future, count in counts.items() if future not in new)
        return waiting + sum(new.values()), waiting

    def _count_clicks(self, clicked: Clicked, new: int) -> None:
        self._metrics.events.labels(clicked.clicks[0].type, clicked.variant, clicked.model_version).inc(new)


async def _wait_briefly(counts: Iterable[Future[int]]) -> None:
    if futures := [asyncio.wrap_future(future) for future in counts]:
        await asyncio.wait(futures, timeout=_LOG_TIMEOUT_S)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
