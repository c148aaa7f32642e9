from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboards.chart_data import (
    bucket_size,
    ctr_buckets,
    ctr_lines,
    latency_bars,
    merge,
    merge_sparse,
    percent,
    span,
)
from immr.events.aggregates import CtrBucket, Latency

START = datetime(2024, 5, 1, 12, tzinfo=UTC)


def bucket(
    after_s: float, version: str, impressions: int, clicks: int, variant: str = "champion"
) -> CtrBucket:
    return CtrBucket(START + timedelta(seconds=after_s), variant, version, impressions, clicks)


def test_merging_keeps_the_sums_and_joins_variants() -> None:
    merged = merge(
        [
            bucket(0, "a", 10, 1),
            bucket(5, "a", 20, 2, "challenger"),
            bucket(5, "b", 5, 5),
            bucket(10, "a", 1, 0),
        ],
        10,
    )
    assert [(one.model_version, one.impressions, one.clicks) for one in merged] == [
        ("a", 30, 3),
        ("b", 5, 5),
        ("a", 1, 0),
    ]


def test_sparse_buckets_are_merged_into_the_next_of_their_version() -> None:
    buckets = merge(
        [bucket(0, "a", 3, 3), bucket(0, "b", 90, 1), bucket(5, "a", 40, 2), bucket(10, "a", 2, 0)], 5
    )
    merged = merge_sparse(buckets)
    assert [(one.model_version, one.impressions, one.clicks) for one in merged] == [
        ("b", 90, 1),
        ("a", 45, 5),
    ]
    assert [one.start for one in merged] == [START, START + timedelta(seconds=5)]  # where most of them are
    begun = merge([bucket(0, "a", 400, 30), bucket(5, "a", 420, 33), bucket(10, "a", 40, 9)], 5)
    assert [one.impressions for one in merge_sparse(begun)] == [400, 460]
    few = merge([bucket(0, "a", 3, 1)], 5)
    assert merge_sparse(few) == few
    assert merge_sparse([]) == []


@pytest.mark.parametrize(
    ("seconds", "size"),
    [(0, 5), (150, 5), (151, 10), (7200, 300), (40 * 86400, 7 * 86400), (400 * 86400, 14 * 86400)],
)
def test_a_span_has_at_most_thirty_buckets(seconds: float, size: int) -> None:
    assert bucket_size(seconds) == size


def test_a_short_log_is_read_again_in_finer_buckets() -> None:
    asked = []

    def ctr_over_time(bucket_s: int, since: datetime | None) -> list[CtrBucket]:
        asked.append((bucket_s, since))
        if bucket_s == 3600:
            return [bucket(0, "a", 100, 9)]
        return [bucket(0, "a", 50, 4), bucket(60, "a", 50, 5), bucket(60, "a", 9, 9, "preview")]

    size_s, buckets = ctr_buckets(ctr_over_time)
    assert asked == [(3600, None), (5, START)]
    assert size_s == 5
    assert [one.impressions for one in buckets] == [50, 50]


def test_sums_by_hour_are_not_called_finer_than_they_are() -> None:
    """Thirty buckets of seven hours would be of 15 minutes, but each has an hour of clicks."""
    hours = [bucket(3600 * hour, "a", 100, 9) for hour in range(8)]
    size_s, buckets = ctr_buckets(lambda bucket_s, since: hours if bucket_s == 3600 else [])
    assert size_s == 3600
    assert [one.start for one in buckets] == [one.start for one in hours]


def test_running_versions_come_first() -> None:
    lines = ctr_lines(
        5, merge([bucket(0, "immr-1", 10, 1), bucket(0, "immr-9", 10, 2)], 5), {"immr-9": "champion"}
    )
    assert [one.name for one in lines.series] == ["immr-9 (champion)", "immr-1"]
    assert lines.series[0].points[0].value == pytest.approx(0.2)
    assert ("12:00:00", "immr-1", "1", "10", "10.0 %", "1.8 % to 40.4 %") in lines.rows
    assert lines.series[1].points[0].label.endswith(", 1 click on 10 impressions")


def test_latency_is_by_version_and_without_previews() -> None:
    latencies = [
        Latency("preview", 3, 1, 1),
        Latency("challenger", 10, 20, 30),
        Latency("champion", 12, 10, 15),
    ]
    bars = latency_bars(latencies, {"champion": "immr-1", "challenger": "immr-2"}, ["champion", "challenger"])
    assert [(bar.group, bar.name, bar.value) for bar in bars] == [
        ("immr-1 (champion) · 12 searches", "p50", 10),
        ("immr-1 (champion) · 12 searches", "p99", 15),
        ("immr-2 (challenger) · 10 searches", "p50", 20),
        ("immr-2 (challenger) · 10 searches", "p99", 30),
    ]


def test_percents_and_spans_in_words() -> None:
    assert percent(0.0712) == "7.1 %"
    assert [span(seconds) for seconds in (5, 60, 900, 3600, 86400)] == [
        "5 seconds",
        "1 minute",
        "15 minutes",
        "1 hour",
        "1 day",
    ]
