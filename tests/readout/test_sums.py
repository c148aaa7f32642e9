"""Everything beside the CTR: first position, orders, empty answers, ranks, bots, CUPED, the plan."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment, Variant
from immr.readout.bots import NO_CLICK, TOO_FAST, BotPolicy
from immr.readout.event_views import Parquet, split_at_start
from immr.readout.formats.text import secondary_rows
from immr.readout.readout import Readout, readout
from immr.readout.sums import Rank, sum_up, sum_up_queries
from immr.readout.variant_health import SLOW_MS

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CHAMPION = Variant("champion", "http://a:1", "immr-1", 0.5)
CHALLENGER = Variant("challenger", "http://b:1", "immr-2", 0.5)
EXPERIMENT = Experiment("test", "salt", (CHAMPION, CHALLENGER), started=NOON)


def shopped(
    users: int = 800, seed: int = 0, lift: float = 0.0, start: datetime = NOON, **more: Any
) -> pa.Table:
    """Consecutive queries with five positions, examined with probability 1 / position; individual click rates."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 6)  # six queries each
    rate = np.random.default_rng(99).beta(0.8, 1.2, users)  # the same users under every seed
    challenged = np.random.default_rng(98).random(users) < 0.5
    relevant = (rate * np.where(challenged, 1 + lift, 1))[user]
    chance = np.minimum(relevant, 1)[:, None] / np.arange(1, 6)
    clicked = (rng.random(chance.shape) < chance).ravel()
    n, query = len(user), np.repeat(np.arange(len(user)), 5)
    names = np.where(challenged, "challenger", "champion")[user]
    columns = {
        "query_id": [f"{seed}-{number}" for number in query],
        "user_id": [f"user-{number}" for number in np.repeat(user, 5)],
        "position": np.tile(np.arange(1, 6), n),
        "clicked": clicked,
        "ordered": clicked & (rng.random(len(clicked)) < 0.3),
        "variant": np.repeat(names, 5),
        "model_version": np.repeat(np.where(names == "champion", "immr-1", "immr-2"), 5),
        "ts": pa.array([start + timedelta(seconds=int(30 * number)) for number in query]),
    }
    return pa.table(columns | more)


def asked(rows: list[tuple[str, str, int]]) -> pa.Table:
    """Searches: user, variant, results; a minute apart."""
    return pa.table(
        {
            "query_id": [f"q{number}" for number in range(len(rows))],
            "user_id": [row[0] for row in rows],
            "variant": [row[1] for row in rows],
            "model_version": ["immr-1" if row[1] == "champion" else "immr-2" for row in rows],
            "ts": pa.array([NOON + timedelta(minutes=number) for number in range(len(rows))]),
            "took_ms": [10.0 + number for number in range(len(rows))],
            "results": [row[2] for row in rows],
            "fallback": [False] * len(rows),
        }
    )


SHOP = shopped()
FOUND = readout(SHOP, EXPERIMENT)


def side(found: Readout, name: str) -> Any:
    return next(each for each in found.variants if each.name == name)


def test_ctr_at_1_is_the_ctr_of_the_first_position() -> None:
    rows = [row for row in SHOP.to_pylist() if row["variant"] == "champion" and row["position"] == 1]
    first = side(FOUND, "champion").rates["CTR@1"]
    assert first.value == pytest.approx(sum(row["clicked"] for row in rows) / len(rows))
    assert first.interval.low < first.value < first.interval.high
    assert FOUND.arms[0].secondary["CTR@1"].champion == pytest.approx(first.value)


def test_orders_per_user_is_a_mean_of_users_and_checked() -> None:
    import tea_tasting as tt

    users = sum_up(SHOP, EXPERIMENT).users
    theirs = tt.Experiment(orders=tt.Mean("orders", use_t=False, equal_var=False), variant="variant")
    checked = theirs.analyze(users.select(["variant", "orders"]), control="champion")["orders"]
    ours = FOUND.arms[0].secondary["orders per user"]
    assert ours.champion == pytest.approx(checked.control)
    assert ours.interval.high == pytest.approx(checked.effect_size_ci_upper, rel=0.01)


def test_an_interleaved_query_with_items_of_the_other_version_only_has_a_result() -> None:
    """The search names the challenger's version, which found nothing; the shopper saw the champion's items."""
    shown = SHOP.slice(0, 5)
    names = {"variant": "challenger", "model_version": "immr-1"}
    for name, value in names.items():
        shown = shown.set_column(shown.schema.get_field_index(name), name, pa.array([value] * 5))
    searches = searches_of(shown.slice(0, 1))
    place = searches.schema.get_field_index("model_version")
    searches = searches.set_column(place, "model_version", pa.array(["immr-2"]))
    [user] = sum_up(shown, replace(EXPERIMENT, kind="interleave"), searches).users.to_pylist()
    assert (user["queries"], user["queries_without_result"], user["impressions"]) == (1, 0, 5)


def test_a_stopped_test_ends_with_the_challengers_last_query() -> None:
    after = shopped(seed=7, start=NOON + timedelta(days=9))
    champions = {
        name: pa.array([value] * len(after))
        for name, value in (("variant", "champion"), ("model_version", "immr-1"))
    }
    for name, column in champions.items():
        after = after.set_column(after.schema.get_field_index(name), name, column)
    stopped = replace(EXPERIMENT, state="stopped")
    found = readout(pa.concat_tables([SHOP, after]), stopped, searches_of(after))
    assert found.withheld is None
    assert (found.users_in_both, found.days) == (0, pytest.approx(FOUND.days, abs=0.1))
    assert found.ctr is not None
    assert FOUND.ctr is not None
    assert found.ctr.difference == pytest.approx(FOUND.ctr.difference, abs=0.01)
    assert readout(pa.concat_tables([SHOP, after]), EXPERIMENT).withheld is not None


def of_variant(shown: pa.Table, variant: str, version: str) -> pa.Table:
    """The same impressions, all of one variant."""
    for name, value in (("variant", variant), ("model_version", version)):
        column = pa.array([value] * len(shown))
        shown = shown.set_column(shown.schema.get_field_index(name), name, column)
    return shown


STOPPED = replace(EXPERIMENT, state="stopped", stopped_at=NOON + timedelta(days=2))


def test_what_comes_after_the_stop_does_not_count() -> None:
    """A gateway that missed the stop answered as challenger days later: all of the champion's users until then
    counted, and the sample ratio seemed wrong."""
    later = of_variant(shopped(seed=7, start=NOON + timedelta(days=3)), "champion", "immr-1")
    last = of_variant(shopped(users=2, seed=8, start=NOON + timedelta(days=9)), "challenger", "immr-2")
    found = readout(pa.concat_tables([SHOP, later, last]), STOPPED, searches_of(later))
    assert found.withheld is None
    assert [each.users for each in found.variants] == [each.users for each in FOUND.variants]
    assert found.ctr == FOUND.ctr


def test_lost_events_before_the_stop_are_found() -> None:
    """The test seemed to end with the last event of a challenger's user that was not lost."""
    later = shopped(users=3000, seed=7, start=NOON + timedelta(hours=41))
    named = pa.array([f"later-{name}" for name in later["user_id"].to_pylist()])
    later = later.set_column(later.schema.get_field_index("user_id"), "user_id", named)
    lost = later.filter(pc.equal(later["variant"], "champion"))
    test = replace(STOPPED, stopped_at=NOON + timedelta(days=9))
    ratio = readout(pa.concat_tables([SHOP, lost]), test).sample_ratio
    assert ratio is not None and not ratio.ok


def test_sums_of_queries_end_with_the_test_too() -> None:
    """The page counted the champion's users after the stop."""
    later = of_variant(shopped(seed=7, start=NOON + timedelta(days=3)), "champion", "immr-1")
    ends: list[datetime | None] = []

    def ranks(bots: list[str], end: datetime | None) -> list[Rank]:
        ends.append(end)
        return []

    searches = searches_of(pa.concat_tables([SHOP, later]))
    by_query = searches.select(["query_id", "user_id", "variant", "model_version", "ts"])
    counts = ("impressions", "clicks", "orders", "first_impressions", "first_clicks", "clicked_positions")
    for name in (*counts, "priced_orders"):
        by_query = by_query.append_column(name, pa.array([1] * len(by_query)))
    by_query = by_query.append_column("revenue", pa.array([0.0] * len(by_query)))
    expected = sum(each.users for each in FOUND.variants)
    assert sum_up_queries(by_query, STOPPED, searches, ranks).users.num_rows == expected
    unknown = sum_up_queries(by_query, replace(STOPPED, stopped_at=None), searches, ranks).users.num_rows
    assert unknown == pytest.approx(expected, abs=5)  # it ends with the last of the challenger's users
    assert ends[0] == STOPPED.stopped_at and ends[1] is not None and ends[1] < STOPPED.stopped_at


def searches_of(shown: pa.Table) -> pa.Table:
    """The searches of impressions."""
    names = ("query_id", "user_id", "variant", "model_version", "ts")
    return pa.table({name: shown[name] for name in names} | {"fallback": pa.array([False] * len(shown))})


def test_zero_result_rate_is_known_with_searches_only() -> None:
    searches = asked([("u1", "champion", 0), ("u1", "champion", 5), ("u2", "challenger", 5)])
    shown = pa.table(
        {
            "query_id": ["q1", "q2"],
            "user_id": ["u1", "u2"],
            "variant": ["champion", "challenger"],
            "model_version": ["immr-1", "immr-2"],
            "clicked": [True, False],
            "ordered": [False, False],
        }
    )
    found = readout(shown, EXPERIMENT, searches)
    assert side(found, "champion").rates["zero-result rate"].value == 0.5
    assert "zero-result rate" not in FOUND.arms[0].secondary
    assert "CTR@1" not in side(found, "champion").rates  # no positions


def test_ctr_by_rank_and_inverse_propensity_weights() -> None:
    champion = [rank for rank in FOUND.by_rank if rank.variant == "champion"]
    assert [rank.position for rank in champion] == [1, 2, 3, 4, 5]
    assert champion[0].ctr > 3 * champion[4].ctr
    assert sum(rank.clicks for rank in champion) == side(FOUND, "champion").clicks
    weighted = side(FOUND, "champion").rates["position-weighted CTR"]
    assert weighted.interval.low < 0.4 < weighted.interval.high  # Beta(0.8, 1.2) has the mean 0.4


def test_a_click_at_an_unknown_position_has_no_weight() -> None:
    clicked = np.flatnonzero(np.asarray(SHOP["clicked"]))[0]
    positions = SHOP["position"].to_pylist()
    lost = min(positions[clicked], 10)
    positions[clicked] = None
    place = SHOP.schema.get_field_index("position")
    found = sum_up(SHOP.set_column(place, "position", pa.array(positions, pa.int64())), EXPERIMENT)
    before, now = (
        sum(sums.users["weighted_clicks"].to_pylist()) for sums in (sum_up(SHOP, EXPERIMENT), found)
    )
    assert before - now == lost


def test_cuped_agrees_with_tea_tasting_and_is_narrower() -> None:
    import tea_tasting as tt

    before = shopped(seed=1, start=NOON - timedelta(days=3))
    found = readout(SHOP, EXPERIMENT, before=before)
    users = sum_up(SHOP, EXPERIMENT, before=before).users
    metric = tt.RatioOfMeans("clicks", "impressions", "clicks_before", "impressions_before", use_t=False)
    theirs = tt.Experiment(ctr=metric, variant="variant").analyze(users, control="champion")["ctr"]
    assert found.arms[0].cuped is not None
    assert found.ctr is not None
    assert found.arms[0].cuped.difference == pytest.approx(theirs.effect_size)
    assert found.arms[0].cuped.interval.low == pytest.approx(theirs.effect_size_ci_lower, rel=0.02)
    width, narrow = (each.interval.high - each.interval.low for each in (found.ctr, found.arms[0].cuped))
    assert narrow < 0.7 * width
    assert found.arms[0].cuped.always_valid.high - found.arms[0].cuped.always_valid.low > narrow


def test_cuped_needs_users_from_before_the_test() -> None:
    strangers = shopped(20, seed=1, user_id=[f"stranger-{number}" for number in range(600)])
    assert readout(SHOP, EXPERIMENT, before=strangers).arms[0].cuped is None
    assert readout(SHOP, EXPERIMENT, before=SHOP.slice(0, 0)).arms[0].cuped is None
    assert readout(SHOP, EXPERIMENT, before=SHOP).arms[0].cuped is None  # nothing would be left to compare
    assert FOUND.arms[0].cuped is None


def test_the_time_before_the_test_ends_at_the_challengers_first_impression(tmp_path: Path) -> None:
    def end_of(events: pa.Table, experiment: Experiment = EXPERIMENT) -> datetime | None:
        pq.write_table(events, tmp_path / "events.parquet")
        joined, before = split_at_start(
            Parquet(str(tmp_path / "events.parquet")), experiment, timedelta(days=14)
        )
        assert joined.since == experiment.started
        return before and before.until

    early = shopped(10, start=NOON - timedelta(days=1))
    assert end_of(early) == early["ts"][_first_seen(early)].as_py()
    only_champion = early.set_column(
        early.column_names.index("model_version"), "model_version", [["immr-1"] * early.num_rows]
    )
    assert end_of(only_champion) == end_of(shopped(10)) == EXPERIMENT.started
    alone = Experiment("alone", "s", (Variant("champion", "http://a", "m", 1),), started=NOON)
    assert end_of(early, alone) is None


def _first_seen(early: pa.Table) -> int:
    return early["model_version"].to_pylist().index("immr-2")


def crawler(queries: int, seconds_apart: float, variant: str = "champion") -> pa.Table:
    return pa.table(
        {
            "query_id": [f"crawl-{number}" for number in range(queries)],
            "user_id": ["crawler"] * queries,
            "position": [1] * queries,
            "clicked": [False] * queries,
            "ordered": [False] * queries,
            "variant": [variant] * queries,
            "model_version": ["immr-1" if variant == "champion" else "immr-2"] * queries,
            "ts": pa.array([NOON + timedelta(seconds=seconds_apart * number) for number in range(queries)]),
        }
    )


@pytest.mark.parametrize(
    ("queries", "seconds_apart", "rule"),
    [(40, 0.5, TOO_FAST), (250, 60, NO_CLICK), (250, 0.1, TOO_FAST), (29, 0.5, None), (199, 60, None)],
)
def test_bots_are_detected_counted_and_excluded(queries: int, seconds_apart: float, rule: str | None) -> None:
    table = pa.concat_tables([SHOP.cast(crawler(1, 1).schema), crawler(queries, seconds_apart)])
    found = readout(table, EXPERIMENT)
    assert [(each.variant, each.rule, each.users, each.queries) for each in found.bots] == (
        [("champion", rule, 1, queries)] if rule else []
    )
    assert side(found, "champion").users == side(FOUND, "champion").users + (rule is None)


def test_heavy_users_whom_a_variant_loses_are_not_left_out_without_a_word() -> None:
    """Those who never click look like bots: the version that lost their clicks was then compared without them."""
    heavy = [
        crawler(250, 60, variant).set_column(1, "user_id", pa.array([f"{variant}-{number}"] * 250))
        for variant, users in (("champion", 2), ("challenger", 20))
        for number in range(users)
    ]
    heavy = [
        table.set_column(0, "query_id", pa.array([f"{number}-{row}" for row in range(250)]))
        for number, table in enumerate(heavy)
    ]
    found = readout(pa.concat_tables([SHOP, *(table.cast(SHOP.schema) for table in heavy)]), EXPERIMENT)
    assert found.sample_ratio is not None and found.sample_ratio.ok
    assert found.withheld is not None and not found.arms
    assert found.withheld.startswith(
        "the number of bots does not match the shares: the champion has 2 bots instead of 11, the challenger has 20"
    )
    even = readout(
        pa.concat_tables([SHOP, *(table.cast(SHOP.schema) for table in (*heavy[:2], *heavy[-4:]))]),
        EXPERIMENT,
    )
    assert even.withheld is None and len(even.bots) == 2


def test_a_user_with_many_queries_is_no_bot_where_times_are_dates() -> None:
    busy = crawler(40, 0)
    midnight = pa.array([NOON.replace(hour=0)] * 40, busy.schema.field("ts").type)
    busy = busy.set_column(busy.schema.get_field_index("ts"), "ts", midnight)
    assert not readout(pa.concat_tables([SHOP, busy]), EXPERIMENT).bots


@pytest.mark.parametrize("minutes", [2, 5, 10, 20, 60, 720])
def test_a_user_with_many_queries_is_no_bot_where_times_are_rounded(minutes: int) -> None:
    """Thirty searches in ten minutes seemed to be in one minute."""

    def rounded(shown: pa.Table) -> pa.Table:
        step = minutes * 60_000_000
        us = pc.multiply(pc.floor(pc.divide(pc.cast(shown["ts"], pa.int64()), step)), step)
        ts = pc.cast(pc.cast(us, pa.int64()), shown.schema.field("ts").type)
        return shown.set_column(shown.schema.get_field_index("ts"), "ts", ts)

    def bots_among(queries: int, seconds_apart: float) -> list[str]:
        table = pa.concat_tables([SHOP, crawler(queries, seconds_apart).cast(SHOP.schema)])
        return [each.rule for each in readout(rounded(table), EXPERIMENT).bots]

    assert bots_among(40, 5) == []
    assert bots_among(5 * 30 * min(minutes, 20), 0.4) == ([TOO_FAST] if minutes <= 60 else [NO_CLICK])


@pytest.mark.parametrize("minutes", [2, 3, 4, 5, 60])
def test_a_part_of_the_log_may_have_rounded_times(minutes: int) -> None:
    """Twenty searches in four minutes seemed to be forty in one."""

    def bots_among(queries: int) -> list[str]:
        busy = crawler(queries, 0)
        noon = pa.array([NOON + timedelta(minutes=minutes)] * queries, busy.schema.field("ts").type)
        busy = busy.set_column(busy.schema.get_field_index("ts"), "ts", noon)
        return [each.rule for each in readout(pa.concat_tables([SHOP, busy]), EXPERIMENT).bots]

    assert bots_among(40) == []
    assert bots_among(150) == ([TOO_FAST] if minutes < 5 else [])


def test_bot_rules_can_be_set() -> None:
    strict = readout(SHOP, EXPERIMENT, bot_policy=BotPolicy(queries_per_minute=1))
    assert strict.withheld is not None
    with pytest.raises(ExperimentError, match="bot policy"):
        BotPolicy(queries_per_minute=0)


def test_the_plan_has_the_days_left() -> None:
    assert FOUND.plan is not None
    assert FOUND.days == pytest.approx(800 * 6 * 30 / 86_400, rel=0.01)
    assert FOUND.days_to_go == pytest.approx(FOUND.days * (FOUND.plan.users_always_valid / 800 - 1))
    assert (
        readout(SHOP, Experiment("alone", "s", (Variant("champion", "http://a", "immr-1", 1),))).plan is None
    )


def test_health_of_the_variants() -> None:
    rows = [("u1", "champion", 5)] * 60 + [("u2", "challenger", 0), ("u3", "challenger", 5)] * 20
    champion, challenger = readout(SHOP.slice(0, 0), EXPERIMENT, asked(rows)).health
    assert (champion.searches, champion.users, champion.zero_result_rate) == (60, 1, 0)
    assert (challenger.searches, challenger.users, challenger.zero_result_rate) == (40, 2, 0.5)
    assert champion.p99_ms == 69.0
    assert float(challenger.empty.numerator_variance) == 200  # 20 and 0 of the users' searches
    assert [float(slow.rate) for slow in champion.slow] == [0.0] * len(SLOW_MS)


def test_everything_is_plain_json_and_can_be_printed() -> None:
    found = readout(SHOP, EXPERIMENT, before=shopped(seed=1, start=NOON - timedelta(days=3)))
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["by_rank"]
    header, *rows = secondary_rows(found)
    assert [row[0] for row in rows] == [
        "CTR",
        "CTR (CUPED)",
        "CTR per user",
        "CTR@1",
        "orders per user",
        "order rate",
        "position-weighted CTR",
    ]
    assert {len(row) for row in rows} == {len(header)}
