"""From the event log's sums to lines, bars and rows; pure but for `Kept`, which spares the log (ours)."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import sqrt
from typing import Generic, TypeVar

from immr.charts.bars import Bar
from immr.charts.lines import Point, Series
from immr.errors import ImmrError
from immr.events.aggregates import CtrBucket, Latency

T = TypeVar("T")

NOT_SHOPPERS = frozenset({"direct", "preview"})
"""Variants of searches that came by no gateway: nobody was assigned to them."""

BUCKETS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 7 * 86400)
_HOUR_S = 3600
_MOST_BUCKETS = 30
_95 = 1.959964
_LONG_S = 0.25  # nobody minds to wait so long


class Kept(Generic[T]):
    """A value that is computed at most every so often, by one thread at a time.

    What took long is kept ten times as long as it took, so that watching never becomes the load; and it is
    computed aside while the value before goes on being shown, so that only the first one is waited for.
    """

    def __init__(self, compute: Callable[[], T], keep_s: float = 2.0) -> None:
        self._compute, self._keep_s = compute, keep_s
        self._lock = threading.Lock()
        self._until = -1.0
        self._took_s = 0.0
        self._kept: list[T] = []

    def __call__(self) -> T:
        """The kept value, or a new one."""
        if self._kept and self._took_s > _LONG_S:
            if time.monotonic() >= self._until and self._lock.acquire(blocking=False):
                threading.Thread(target=self._renew_aside, daemon=True).start()
            return self._kept[0]
        with self._lock:
            if time.monotonic() >= self._until:
                self._renew()
            return self._kept[0]

    def _renew(self) -> None:
        started = time.monotonic()
        self._kept[:] = [self._compute()]
        self._took_s = time.monotonic() - started
        self._until = started + self._took_s + max(self._keep_s, 10 * self._took_s)

    def _renew_aside(self) -> None:
        try:
            self._renew()
        except ImmrError:
            self._took_s = 0.0  # whoever asks next waits, and is told
        finally:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class VersionBucket:
    """What one version showed in one stretch of time, and how much of it was clicked."""

    start: datetime
    model_version: str
    impressions: int
    clicks: int


@dataclass(frozen=True, slots=True)
class CtrLines:
    """CTR by version over time, and the same as rows: time, version, clicks, impressions, CTR, interval."""

    bucket_s: int
    series: Sequence[Series]
    rows: Sequence[tuple[str, str, str, str, str, str]]


def ctr_buckets(
    ctr_over_time: Callable[[int, datetime | None], list[CtrBucket]],
) -> tuple[int, list[VersionBucket]]:
    """Buckets of a length that suits the log, at most thirty by version: hours first, finer for a young log.

    Returns:
        The length of a bucket in seconds, and the buckets.
    """
    hours = _of_shoppers(ctr_over_time(_HOUR_S, None))
    if not hours:
        return BUCKETS_S[0], []
    first, last = hours[0].start, hours[-1].start
    if last - first <= timedelta(hours=2):
        hours = _of_shoppers(ctr_over_time(BUCKETS_S[0], first))
        first, last = hours[0].start, hours[-1].start
    size_s = bucket_size((last - first).total_seconds())
    return size_s, merge(hours, size_s)


def bucket_size(span_s: float) -> int:
    """The shortest bucket that cuts the span into at most thirty."""
    return next((size for size in BUCKETS_S if span_s / size <= _MOST_BUCKETS), BUCKETS_S[-1])


def merge(buckets: Iterable[CtrBucket], size_s: int) -> list[VersionBucket]:
    """Buckets joined into longer ones, in order of time.

    Variants are joined too: a version that was promoted goes on in its line, and one that stepped in for the
    other is counted where it answered.
    """
    sums: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for bucket in buckets:
        start_s = int(bucket.start.timestamp()) // size_s * size_s
        total = sums[start_s, bucket.model_version]
        total[0] += bucket.impressions
        total[1] += bucket.clicks
    return [
        VersionBucket(datetime.fromtimestamp(start_s, UTC), version, impressions, clicks)
        for (start_s, version), (impressions, clicks) in sorted(sums.items())
    ]


def ctr_lines(size_s: int, buckets: Sequence[VersionBucket], running: Mapping[str, str]) -> CtrLines:
    """Lines by version, first those that are `running`: model version to variant."""
    found = dict.fromkeys(bucket.model_version for bucket in buckets)
    versions = dict.fromkeys([*running, *found])
    pattern = "%d %b %Y" if size_s >= 86400 else "%d %b %H:%M" if size_s >= 3600 else "%H:%M:%S"
    series, rows = [], []
    for colour, version in enumerate(versions):
        points = []
        for bucket in buckets:
            if bucket.model_version != version:
                continue
            ctr = bucket.clicks / bucket.impressions
            low, high = wilson(bucket.clicks, bucket.impressions)
            when = bucket.start.strftime(pattern)
            interval = f"{percent(low)} to {percent(high)}"
            label = (
                f"{version}, {when}: {percent(ctr)} ({interval}), "
                f"{bucket.clicks} clicks on {bucket.impressions} impressions"
            )
            points.append(Point(bucket.start.timestamp() + size_s / 2, ctr, low, high, label))
            rows.append(
                (when, version, f"{bucket.clicks:,}", f"{bucket.impressions:,}", percent(ctr), interval)
            )
        name = f"{version} ({running[version]})" if version in running else version
        series.append(Series(name, points, colour))
    return CtrLines(size_s, series, sorted(rows, reverse=True))


@dataclass(frozen=True, slots=True)
class CategoryCtr:
    """What one variant showed of one category, and how much of it was clicked."""

    category: str
    variant: str
    impressions: int
    clicks: int


def by_category(counted: Mapping[tuple[str, str], Sequence[int]]) -> list[CategoryCtr]:
    """Rows of category and variant, the category that was shown most first."""
    shown: dict[str, int] = defaultdict(int)
    for (category, _), (impressions, _) in counted.items():
        shown[category] += impressions
    return [
        CategoryCtr(category, variant, *sums)
        for (category, variant), sums in sorted(
            counted.items(), key=lambda entry: (-shown[entry[0][0]], entry[0])
        )
    ]


def latency_bars(latencies: Sequence[Latency], versions: dict[str, str], order: Sequence[str]) -> list[Bar]:
    """p50 and p99 of each variant, the running ones first and called by their version."""
    known = [latency for latency in latencies if latency.variant not in NOT_SHOPPERS]
    places = {variant: place for place, variant in enumerate(order)}
    known.sort(key=lambda latency: (places.get(latency.variant, len(places)), latency.variant))
    bars = []
    for colour, latency in enumerate(known):
        name = versions.get(latency.variant)
        group = f"{name} ({latency.variant})" if name else latency.variant
        group = f"{group} · {latency.searches:,} searches"
        bars.append(Bar(group, "p50", latency.p50_ms, colour))
        bars.append(Bar(group, "p99", latency.p99_ms, colour, faint=True))
    return bars


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share (Wilson, 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, _95**2
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    reach = _95 * sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def percent(share: float) -> str:
    """0.0712 → `7.1 %`."""
    return f"{100 * share:.1f} %"


def span(seconds: int) -> str:
    """90 → `90 seconds`, 3600 → `1 hour`."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return f"{seconds // size} {name}{'s' if seconds != size else ''}"
    return f"{seconds} seconds"


def _of_shoppers(buckets: Iterable[CtrBucket]) -> list[CtrBucket]:
    return [bucket for bucket in buckets if bucket.variant not in NOT_SHOPPERS]
