"""Between HTTP and the event log: what was shown goes in, and clicks whose tokens are ours.

A search is answered once its record is in the journal on this machine's disk; a thread brings it to the log.
Clicks are answered once the log has them, or where the log is away, once they are safe on disk.
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
from immr.events.entries import Clicked, Shown
from immr.events.journal import MAX_WAITING_BYTES, EventJournal
from immr.settings import Settings
from immr.types import Click, SearchRecord
from immr.wiring import connect
from serving.process.metrics import Metrics
from serving.wire.problems import ProblemError, unavailable
from serving.wire.schemas import PREVIEW, EventBody, EventsAnswer, Rejected, SearchBody

log = logging.getLogger(__name__)

TOKEN_MAX_AGE = timedelta(hours=24)  # later clicks would not join their impression anyway
_CLOCK_SKEW = timedelta(minutes=5)
_LOG_TIMEOUT_S = 2.0


class Recorder:
    """Takes what was shown and clicked; safe to share within one event loop."""

    def __init__(
        self, settings: Settings, metrics: Metrics, max_waiting_bytes: int = MAX_WAITING_BYTES
    ) -> None:
        """The log may be away; up to so much waits for it in `settings.waiting_events_dir`.

        Where that folder cannot be written nothing is recorded, until it can.
        """
        self._keys = connect(settings).token_keys
        self._settings = settings
        self._metrics = metrics
        self._max_waiting_bytes = max_waiting_bytes
        self._opened: Delivery | None = None
        metrics.events_waiting_bytes.set_function(lambda: self._opened.waiting_bytes if self._opened else 0)
        try:
            self._delivery()  # now, for what an earlier process has left
        except EventLogError as error:
            log.error("nothing is recorded: %s", error)

    def search(
        self,
        answer: SearchBody,
        user_id: str,
        now: datetime,
        fallback: bool = False,
        versions: tuple[str, ...] = (),
    ) -> bool:
        """Record what was shown; False where no more may wait: the shopper gets an answer anyway.

        `versions` are those that an interleaved answer's hits are from.
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

    async def events(self, events: Sequence[EventBody]) -> EventsAnswer:
        """Verify and record.

        Raises:
            ProblemError: 422 where not one event is valid, 503 where the log does not take them.
        """
        now = datetime.now(UTC)
        clicks: dict[str, tuple[Click, tokens.ClickToken]] = {}
        rejected: list[Rejected] = []
        for index, event in enumerate(events):
            try:
                token = self._checked(event, now)
            except TokenError as error:
                rejected.append(Rejected(index=index, reason=str(error)))
            else:
                click = tokens.to_click(token, event.type, min(_aware(event.ts), now))
                clicks.setdefault(click.event_id, (click, token))
        if rejected:
            self._metrics.errors.labels("event_rejected").inc(len(rejected))
        if len(rejected) == len(events):
            raise ProblemError(422, f"no event is valid; the first: {rejected[0].reason}", rejected=rejected)
        accepted, waiting = await self._append(clicks.values())
        duplicates = len(events) - len(rejected) - accepted
        return EventsAnswer(accepted=accepted, duplicates=duplicates, waiting=waiting, rejected=rejected)

    async def close(self) -> None:
        """Bring what waits to the log, if it is there, then let go."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close)

    def _delivery(self) -> Delivery:
        """Opened when first asked for: a Bento of a cluster has no folder that it may write to.

        Raises:
            EventLogError: the folder cannot be written.
        """
        if self._opened is None:
            journal = EventJournal(self._settings.waiting_events_dir, self._max_waiting_bytes)
            self._opened = Delivery(
                lambda: connect(self._settings).events,
                journal,
                self._count_clicks,
                on_refused=self._metrics.errors.labels("event_refused").inc,
            )
        return self._opened

    def _checked(self, event: EventBody, now: datetime) -> tokens.ClickToken:
        token = tokens.verify(self._keys, event.click_token, now, TOKEN_MAX_AGE)
        if token.variant == PREVIEW:
            raise TokenError("the click token comes from a preview, whose clicks are not counted")
        if not token.issued - _CLOCK_SKEW <= _aware(event.ts) <= now + _CLOCK_SKEW:
            raise TokenError(
                f"ts {event.ts.isoformat()} is before the search or in the future: send when it happened, "
                "with its time zone (without one it is taken as UTC)"
            )
        return token

    async def _append(self, clicks: Iterable[tuple[Click, tokens.ClickToken]]) -> tuple[int, int]:
        """How many count as accepted, and how many of those wait on disk.

        One write per kind of event, because the log says how many are new, not which.
        """
        kinds: dict[tuple[str, str, str], list[Click]] = {}
        for click, token in clicks:
            kinds.setdefault((click.type, token.variant, token.model_version), []).append(click)
        told: dict[Future[int], int] = {}
        try:
            delivery = self._delivery()
            for (_, variant, version), same_kind in kinds.items():
                clicked = Clicked(tuple(same_kind), uuid.uuid4().hex, variant, version)
                told[delivery.clicked(clicked)] = len(same_kind)
            if not delivery.away_because:
                await _settled(told)
            if not all(future.done() for future in told):
                await asyncio.to_thread(delivery.sync)
        except EventLogError as error:
            log.error("events were not recorded: %s", error)
            self._metrics.errors.labels("event_log").inc()
            raise unavailable("the event log takes no events now: send the same events again") from error
        new = {future: future.result() for future in told if future.done()}  # once: any moment more are done
        waiting = sum(count for future, count in told.items() if future not in new)
        return waiting + sum(new.values()), waiting

    def _count_clicks(self, clicked: Clicked, new: int) -> None:
        self._metrics.events.labels(clicked.clicks[0].type, clicked.variant, clicked.model_version).inc(new)


async def _settled(told: Iterable[Future[int]]) -> None:
    """Wait a little."""
    if futures := [asyncio.wrap_future(future) for future in told]:
        await asyncio.wait(futures, timeout=_LOG_TIMEOUT_S)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
