from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from dashboards.chart_data import (
    CategoryCtr,
    CtrRow,
    bucket_size,
    by_category,
    by_version,
    ctr_buckets,
    ctr_lines,
    ctr_with_interval,
    latency_bars,
    merge_sparse,
    moment,
    percent,
    span,
)
from immr.evaluation.proportions import wilson
from immr.events.aggregates import CtrBucket, Latency

START = datetime(2024, 5, 1, 12, tzinfo=UTC)


def bucket(
    after_s: float, version: str, impressions: int, clicks: int, variant: str = "champion"
) -> CtrBucket:
    """Of users who saw one item each."""
    when = START + timedelta(seconds=after_s)
    return CtrBucket(when, variant, version, impressions, clicks, impressions, clicks, clicks)


class Log:
    """An event log with these buckets."""

    def __init__(self, buckets: list[CtrBucket], span: timedelta) -> None:
        self.buckets, self.span, self.asked = buckets, span, []

    def period(self, without_variants: Collection[str]) -> tuple[datetime, datetime] | None:
        assert set(without_variants) == {"direct", "preview"}
        return (START, START + self.span) if self.buckets else None

    def ctr_over_time(self, bucket_s: int, since: datetime) -> list[CtrBucket]:
        self.asked.append((bucket_s, since))
        return self.buckets


def test_variants_of_a_version_are_merged() -> None:
    merged = by_version(
        [
            bucket(0, "a", 10, 1),
            bucket(5, "a", 20, 2),
            bucket(0, "a", 20, 2, "challenger"),
            bucket(0, "a", 9, 9, "preview"),
            bucket(0, "b", 5, 5),
        ]
    )
    assert [(one.model_version, one.impressions, one.clicks, one.products) for one in merged] == [
        ("a", 30, 3, 3),
        ("b", 5, 5, 5),
        ("a", 20, 2, 2),
    ]


def test_sparse_buckets_are_merged_into_the_next_of_their_version() -> None:
    buckets = by_version(
        [bucket(0, "a", 3, 3), bucket(0, "b", 90, 1), bucket(5, "a", 40, 2), bucket(10, "a", 2, 0)]
    )
    merged = merge_sparse(buckets)
    assert [(one.model_version, one.impressions, one.clicks) for one in merged] == [
        ("b", 90, 1),
        ("a", 45, 5),
    ]
    assert [one.start for one in merged] == [START, START + timedelta(seconds=5)]  # where most of them are
    begun = by_version([bucket(0, "a", 400, 30), bucket(5, "a", 420, 33), bucket(10, "a", 40, 9)])
    assert [one.impressions for one in merge_sparse(begun)] == [400, 460]
    few = by_version([bucket(0, "a", 3, 1)])
    assert merge_sparse(few) == few
    assert merge_sparse([]) == []


@pytest.mark.parametrize(
    ("seconds", "size"),
    [(0, 5), (150, 5), (151, 10), (7200, 300), (40 * 86400, 7 * 86400), (400 * 86400, 14 * 86400)],
)
def test_a_span_has_at_most_thirty_buckets(seconds: float, size: int) -> None:
    assert bucket_size(seconds) == size


def test_the_log_is_asked_for_buckets_of_its_period() -> None:
    """It counts users within a bucket, so its buckets cannot be put together."""
    log = Log([bucket(0, "a", 50, 4), bucket(60, "a", 50, 5)], timedelta(seconds=90))
    size_s, buckets = ctr_buckets(log)
    assert (size_s, log.asked) == (5, [(5, START)])
    assert [one.impressions for one in buckets] == [50, 50]
    week = Log([bucket(0, "a", 50, 4)], timedelta(days=7))
    assert (ctr_buckets(week)[0], week.asked) == (6 * 3600, [(6 * 3600, START)])
    assert ctr_buckets(Log([], timedelta())) == (5, [])


def band(impressions_U: np.ndarray, clicks_U: np.ndarray) -> tuple[float, float]:
    """The interval of one bucket with these users."""
    sums = (impressions_U.sum(), clicks_U.sum(), impressions_U @ impressions_U, clicks_U @ clicks_U)
    sums_of_users = *map(int, sums), int(impressions_U @ clicks_U)
    return ctr_with_interval(CtrBucket(START, "", "a", *sums_of_users))[1]


@pytest.mark.parametrize(("users", "click_rate"), [(20, 0.1), (200, 0.1), (200, 0.02), (200, 0.7)])
def test_the_band_covers_the_ctr_of_users_who_differ(users: int, click_rate: float) -> None:
    """Some users search far more than others, and click at rates of their own."""
    rng, covered, by_impressions = np.random.default_rng(0), 0, 0
    for _ in range(500):
        impressions_U = 10 * np.minimum(rng.pareto(2, users) + 1, 50).astype(np.int64)
        clicks_U = rng.binomial(impressions_U, rng.beta(2 * click_rate, 2 * (1 - click_rate), users))
        low, high = band(impressions_U, clicks_U)
        covered += low <= click_rate <= high
        low, high = wilson(clicks_U.sum(), impressions_U.sum())
        by_impressions += low <= click_rate <= high
    assert covered >= 0.89 * 500
    assert by_impressions < 0.7 * 500


def test_the_band_of_independent_impressions_is_wilsons() -> None:
    ones_U = np.ones(400, dtype=np.int64)
    clicks_U = (np.arange(400) < 40).astype(np.int64)
    assert band(ones_U, clicks_U) == pytest.approx(wilson(40, 400), abs=2e-3)
    low, high = band(ones_U[:30] * 10, 0 * ones_U[:30])  # no clicks: as good as 30 impressions
    assert (low, high) == pytest.approx(wilson(0, 30), abs=0.02)


def test_running_versions_come_first() -> None:
    lines = ctr_lines(
        5, by_version([bucket(0, "immr-1", 10, 1), bucket(0, "immr-9", 10, 2)]), {"immr-9": "champion"}
    )
    assert [one.name for one in lines.series] == ["immr-9 (champion)", "immr-1"]
    assert lines.series[0].points[0].value == pytest.approx(0.2)
    assert CtrRow(START, "12:00:00", "immr-1", "1", "10", "10.0 %", "1.3 % to 47.7 %") in lines.rows
    assert lines.series[1].points[0].label.endswith(", 1 click on 10 impressions")


def test_rows_are_newest_first_beyond_the_end_of_a_month() -> None:
    """As text, 31 May would be after 1 June."""
    days = [bucket(86400 * day, "a", 100, 9) for day in (29, 30, 31)]
    rows = ctr_lines(86400, by_version(days), {}).rows
    assert [row.when for row in rows] == ["01 Jun 2024", "31 May 2024", "30 May 2024"]


def test_a_moment_names_itself_in_utc() -> None:
    there = datetime(2024, 5, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    assert moment(there) == '<time datetime="2024-05-01T12:30:00+00:00">01 May 2024 12:30</time>'


def test_categories_have_the_order_of_versions_of_the_whole_page() -> None:
    """The challenger stood above the champion, because its name comes first."""
    sums = {("Jars", "challenger"): (5, 1), ("Cans", "challenger"): (20, 2), ("Cans", "champion"): (10, 1)}
    assert by_category(sums, ["champion", "challenger"]) == [
        CategoryCtr("Cans", "champion", 10, 1),
        CategoryCtr("Cans", "challenger", 20, 2),
        CategoryCtr("Jars", "challenger", 5, 1),
    ]


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
