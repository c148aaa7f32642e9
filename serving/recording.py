"""Between HTTP and the event log: what was shown goes in, and clicks whose tokens are ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from immr.errors import EventLogError, TokenError
from immr.events import tokens
from immr.events.port import EventLog
from immr.types import Click, Impression, SearchRecord
from serving.http import PREVIEW, EventBody, EventsAnswer, ProblemError, Rejected, SearchBody, unavailable
from serving.metrics import Metrics

T = TypeVar("T")
log = logging.getLogger(__name__)

TOKEN_MAX_AGE = timedelta(hours=24)  # later clicks would not join their impression anyway
_CLOCK_SKEW = timedelta(minutes=5)


class Recorder:
    """Writes to one event log from a thread of its own, so that the event loop stays free."""

    def __init__(self, event_log: EventLog, keys: Sequence[bytes], metrics: Metrics) -> None:
        self._log = event_log
        self._keys = keys
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")

    async def search(self, answer: SearchBody, user_id: str, now: datetime, fallback: bool = False) -> bool:
        """Record what was shown; False where the log does not take it: the shopper gets an answer anyway."""
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
        impressions = _impressions(answer, user_id, now)
        try:
            await self._in_thread(self._log.record_search, search, impressions)
        except EventLogError as error:
            log.error("a search was not recorded: %s", error)
            self._metrics.errors.labels("event_log").inc()
            return False
        self._metrics.impressions.labels(answer.variant, answer.model_version).inc(len(impressions))
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
        accepted = await self._append(clicks.values())
        duplicates = len(events) - len(rejected) - accepted
        return EventsAnswer(accepted=accepted, duplicates=duplicates, rejected=rejected)

    async def close(self) -> None:
        """Finish what is being written, then let go of the log."""
        await self._in_thread(self._log.close)
        self._thread.shutdown()

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

    async def _append(self, clicks: Iterable[tuple[Click, tokens.ClickToken]]) -> int:
        """One write per kind of event, because the log says how many are new, not which."""
        kinds: dict[tuple[str, str, str], list[Click]] = {}
        for click, token in clicks:
            kinds.setdefault((click.type, token.variant, token.model_version), []).append(click)
        accepted = 0
        try:
            for labels, same_kind in kinds.items():
                new = await self._in_thread(self._log.record_clicks, same_kind)
                self._metrics.events.labels(*labels).inc(new)
                accepted += new
        except EventLogError as error:
            log.error("events were not recorded: %s", error)
            self._metrics.errors.labels("event_log").inc()
            raise unavailable("the event log takes no events now: send the same events again") from error
        return accepted

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)


def _impressions(answer: SearchBody, user_id: str, now: datetime) -> list[Impression]:
    return [
        Impression(
            query_id=answer.query_id,
            item_id=hit.item_id,
            position=position,
            user_id=user_id,
            variant=answer.variant,
            model_version=answer.model_version,
            ts=now,
        )
        for position, hit in enumerate(answer.hits, start=1)
    ]


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
