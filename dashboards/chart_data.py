"""Pure functions that turn the event log's sums into lines, bars and rows for the page."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

from markupsafe import Markup

from immr.charts.bars import Bar
from immr.charts.lines import Point, Series
from immr.evaluation.proportions import ClusterSums, share_interval
from immr.events.aggregates import CtrBucket, Latency
from immr.events.event_log import EventLog
from immr.experiment.definition import DIRECT, PREVIEW
from immr.machine.wording import counted

NOT_SHOPPERS = frozenset({DIRECT, PREVIEW})
"""Variants of searches that did not come through a gateway, so no user was assigned to them."""

BUCKETS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 7 * 86400)
SPARSE = 30
"""Impressions below which a bucket of the CTR chart is merged with the next."""
SPARSE_SHARE = 0.25
"""The same, as a share of the version's median bucket: the last bucket has just begun."""
_MAX_BUCKETS = 30
_SUMS = ("impressions", "clicks", "impressions_squares", "clicks_squares", "products")


@dataclass(frozen=True, slots=True)
class CtrRow:
    """One version's CTR in one time bucket, as text. `when` is `start` in UTC."""

    start: datetime
    when: str
    version: str
    clicks: str
    impressions: str
    ctr: str
    interval: str


@dataclass(frozen=True, slots=True)
class CtrLines:
    """CTR by version over time, as series and as rows, newest first."""

    bucket_s: int
    series: Sequence[Series]
    rows: Sequence[CtrRow]


def ctr_with_interval(bucket: CtrBucket) -> tuple[float, tuple[float, float]]:
    """The CTR and its 95 % interval, with users as the unit: one user's clicks depend on each other."""
    ctr = bucket.clicks / bucket.impressions
    squared_residuals = (
        bucket.clicks_squares - 2 * ctr * bucket.products + ctr**2 * bucket.impressions_squares
    )
    of_users = ClusterSums(bucket.impressions, bucket.impressions_squares, max(squared_residuals, 0.0))
    _, factor = of_users.variance_factor(ctr * (1 - ctr), 0.95)
    return ctr, share_interval(ctr, bucket.impressions, factor=max(factor, 1.0))


def ctr_buckets(events: EventLog) -> tuple[int, list[CtrBucket]]:
    """Sums in about thirty buckets per version.

    Returns:
        The bucket length in seconds, and the buckets.
    """
    period = events.period(NOT_SHOPPERS)
    if period is None:
        return BUCKETS_S[0], []
    size_s = bucket_size((period[1] - period[0]).total_seconds())
    return size_s, merge_sparse(by_version(events.ctr_over_time(size_s, period[0])))


def bucket_size(span_s: float) -> int:
    """The shortest bucket length that divides the span into at most thirty buckets."""
    longest = BUCKETS_S[-1]
    weeks = longest * math.ceil(span_s / (longest * _MAX_BUCKETS))
    return next((size for size in BUCKETS_S if span_s / size <= _MAX_BUCKETS), weeks)


def by_version(buckets: Iterable[CtrBucket]) -> list[CtrBucket]:
    """Buckets of shoppers by time and version, without a variant.

    Variants are merged: a promoted version keeps its line, and a fallback counts for the version that answered.
    """
    found: dict[tuple[datetime, str], CtrBucket] = {}
    for bucket in buckets:
        if bucket.variant not in NOT_SHOPPERS:
            key = bucket.start, bucket.model_version
            found[key] = _summed(found[key], bucket) if key in found else replace(bucket, variant="")
    return [found[key] for key in sorted(found)]


def merge_sparse(buckets: Sequence[CtrBucket]) -> list[CtrBucket]:
    """Merge each sparse bucket with the next bucket of its version; the last one with the bucket before.

    A CTR of a handful of impressions is noise that would set the scale of the chart. A merged bucket is placed where
    most of its impressions are, not at the few from hours before.
    """
    found: list[CtrBucket] = []
    for version in dict.fromkeys(bucket.model_version for bucket in buckets):
        own = [bucket for bucket in buckets if bucket.model_version == version]
        least = max(SPARSE, SPARSE_SHARE * median(bucket.impressions for bucket in own))
        whole: list[CtrBucket] = []
        begun: CtrBucket | None = None
        for bucket in own:
            begun = _joined(begun, bucket) if begun else bucket
            if begun.impressions >= least:
                whole.append(begun)
                begun = None
        if begun:
            whole.append(_joined(whole.pop(), begun) if whole else begun)
        found += whole
    return sorted(found, key=lambda bucket: (bucket.start, bucket.model_version))


def _joined(first: CtrBucket, second: CtrBucket) -> CtrBucket:
    """Both buckets as one, which starts where the one with more impressions starts."""
    return _summed(first, second) if first.impressions >= second.impressions else _summed(second, first)


def _summed(bucket: CtrBucket, other: CtrBucket) -> CtrBucket:
    """The first bucket with the sums of both, as if no user were in both."""
    return replace(bucket, **{name: getattr(bucket, name) + getattr(other, name) for name in _SUMS})


def ctr_lines(size_s: int, buckets: Sequence[CtrBucket], running: Mapping[str, str]) -> CtrLines:
    """One line per version; `running` maps the current versions to their variants, and these come first."""
    found = dict.fromkeys(bucket.model_version for bucket in buckets)
    versions = dict.fromkeys([*running, *found])
    pattern = "%d %b %Y" if size_s >= 86400 else "%d %b %H:%M" if size_s >= 3600 else "%H:%M:%S"
    series, rows = [], []
    for colour, version in enumerate(versions):
        points = []
        for bucket in buckets:
            if bucket.model_version != version:
                continue
            ctr, (low, high) = ctr_with_interval(bucket)
            when = bucket.start.strftime(pattern)
            interval = f"{percent(low)} to {percent(high)}"
            label = (
                f"{version}, {when}: {percent(ctr)} ({interval}), "
                f"{counted(bucket.clicks, 'click')} on {counted(bucket.impressions, 'impression')}"
            )
            start_s = bucket.start.timestamp()
            points.append(Point(start_s + size_s / 2, ctr, low, high, label, when, start_s))
            sums = f"{bucket.clicks:,}", f"{bucket.impressions:,}"
            rows.append(CtrRow(bucket.start, when, version, *sums, percent(ctr), interval))
        name = f"{version} ({running[version]})" if version in running else version
        series.append(Series(name, points, colour))
    rows.sort(key=lambda row: (row.start, row.version), reverse=True)
    return CtrLines(size_s, series, rows)


def moment(when: datetime, pattern: str = "%d %b %Y %H:%M") -> Markup:
    """A time in UTC, which the browser shows in its own time zone."""
    utc = when.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(), utc.strftime(pattern))


@dataclass(frozen=True, slots=True)
class CategoryCtr:
    """Impressions and clicks of one variant in one category."""

    category: str
    variant: str
    impressions: int
    clicks: int


def by_category(
    sums_of: Mapping[tuple[str, str], Sequence[int]], order: Sequence[str] = ()
) -> list[CategoryCtr]:
    """Rows by category, the one with the most impressions first, and by variant, in this order."""
    shown: dict[str, int] = defaultdict(int)
    for (category, _), (impressions, _) in sums_of.items():
        shown[category] += impressions
    rows = [CategoryCtr(category, variant, *sums) for (category, variant), sums in sums_of.items()]
    return sorted(rows, key=lambda row: (-shown[row.category], row.category, *_place_in(order, row.variant)))


def _place_in(order: Sequence[str], variant: str) -> tuple[int, str]:
    """Sorts a variant by its place in the order, and after these by its name."""
    return (order.index(variant) if variant in order else len(order)), variant


def latency_bars(latencies: Sequence[Latency], versions: dict[str, str], order: Sequence[str]) -> list[Bar]:
    """p50 and p99 of each variant; running ones come first and carry their version's name."""
    known = [latency for latency in latencies if latency.variant not in NOT_SHOPPERS]
    known.sort(key=lambda latency: _place_in(order, latency.variant))
    bars = []
    for colour, latency in enumerate(known):
        name = versions.get(latency.variant)
        group = f"{name} ({latency.variant})" if name else latency.variant
        group = f"{group} · {counted(latency.searches, 'search')}"
        bars.append(Bar(group, "p50", latency.p50_ms, colour))
        bars.append(Bar(group, "p99", latency.p99_ms, colour, faint=True))
    return bars


def percent(share: float) -> str:
    """0.0712 → `7.1 %`."""
    return f"{100 * share:.1f} %"


def span(seconds: int) -> str:
    """90 → `90 seconds`, 3600 → `1 hour`."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return counted(seconds // size, name)
    return counted(seconds, "second")


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th …"""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
