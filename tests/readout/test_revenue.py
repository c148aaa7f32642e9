"""Revenue per user and order rate: against tea-tasting and NumPy, from every source of events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from immr.events.event_log import EventLog
from immr.events.postgres.log import PostgresEventLog
from immr.events.sqlite.log import SqliteEventLog
from immr.readout.event_views import Parquet
from immr.readout.formats.text import secondary_rows
from immr.readout.readout import Readout, readout, readout_of_sums
from immr.readout.revenue import cap_revenue
from immr.readout.sums import sum_up, sum_up_queries
from immr.types import Click, Impression, SearchRecord
from tests.readout.even_experiment import EXPERIMENT, NOON
from tests.support.postgres_server import PostgresServer

USERS = 1200


def bought(seed: int, more: float = 1.0) -> pa.Table:
    """One impression per search, four searches a user; users differ in how often and how much they buy."""
    taste, rng = np.random.default_rng(7), np.random.default_rng(seed)
    wealth_U, buys_U = taste.lognormal(3, 1, USERS), taste.beta(2, 6, USERS)
    user_R = np.repeat(np.arange(USERS), 4)
    challenged_R = user_R % 2 == 1
    ordered_R = rng.random(len(user_R)) < buys_U[user_R]
    amount_R = wealth_U[user_R] * rng.lognormal(0, 0.3, len(user_R)) * np.where(challenged_R, more, 1)
    return pa.table(
        {
            "query_id": [f"{seed}-{row}" for row in range(len(user_R))],
            "user_id": [f"u{user}" for user in user_R],
            "variant": np.where(challenged_R, "challenger", "champion"),
            "model_version": np.where(challenged_R, "immr-2", "immr-1"),
            "clicked": ordered_R,
            "ordered": ordered_R,
            "amount": pa.array(amount_R, mask=~ordered_R),
        }
    )


SHOP, BEFORE = bought(1, more=1.5), bought(2)
FOUND = readout(SHOP, EXPERIMENT, before=BEFORE)


def metric(found: Readout, name: str) -> Any:
    return found.arms[0].secondary[name]


def test_revenue_is_winsorized_at_the_99th_percentile_of_those_who_paid() -> None:
    frame = SHOP.to_pandas()
    revenue = frame.groupby(["variant", "user_id"]).amount.sum()
    cap = np.percentile(revenue[revenue > 0], 99)
    assert FOUND.revenue is not None and FOUND.revenue.cap == pytest.approx(cap)
    mean = revenue.clip(upper=cap).groupby("variant").mean()
    assert metric(FOUND, "revenue per user").challenger == pytest.approx(mean["challenger"])
    assert metric(FOUND, "revenue per user").difference == pytest.approx(
        mean["challenger"] - mean["champion"]
    )
    assert metric(FOUND, "revenue per user").always_valid.low > 0
    assert [side.revenue for side in FOUND.variants] == pytest.approx(
        [revenue["champion"].sum(), revenue["challenger"].sum()]
    )


def test_intervals_agree_with_tea_tasting_with_and_without_cuped() -> None:
    import tea_tasting as tt

    users, _ = cap_revenue(sum_up(SHOP, EXPERIMENT, before=BEFORE).users)
    options = {"use_t": False, "equal_var": False}
    theirs = tt.Experiment(
        plain=tt.Mean("revenue", **options),
        cuped=tt.Mean("revenue", "revenue_before", **options),
        rate=tt.Mean("has_ordered", **options),
        variant="variant",
    ).analyze(users, control="champion")
    for name, key in (
        ("revenue per user", "plain"),
        ("revenue per user (CUPED)", "cuped"),
        ("order rate", "rate"),
    ):
        ours = metric(FOUND, name)
        assert ours.difference == pytest.approx(theirs[key].effect_size)
        assert ours.interval.low == pytest.approx(theirs[key].effect_size_ci_lower, rel=0.02)
        assert ours.p_value == pytest.approx(theirs[key].pvalue, rel=0.2)

    def width(name: str) -> float:
        interval = metric(FOUND, name).interval
        return float(interval.high - interval.low)

    assert width("revenue per user (CUPED)") < 0.9 * width("revenue per user")


def test_without_amounts_there_is_no_revenue_but_an_order_rate() -> None:
    found = readout(SHOP.drop_columns(["amount"]), EXPERIMENT)
    assert found.revenue is None
    assert "revenue per user" not in found.arms[0].secondary
    assert metric(found, "order rate").champion == metric(FOUND, "order rate").champion
    assert not any("revenue" in row[0] for row in secondary_rows(found))


def test_orders_without_an_amount_are_counted() -> None:
    orders = pc.sum(SHOP["ordered"]).as_py()
    some = pc.if_else(pc.equal(SHOP["variant"], "champion"), SHOP["amount"], pa.scalar(None, pa.float64()))
    found = readout(SHOP.set_column(6, "amount", some), EXPERIMENT).revenue
    assert found is not None and found.orders == orders
    assert f"{orders - found.priced_orders:,} of {orders:,} orders have no amount" in found.sentence
    assert FOUND.revenue is not None and FOUND.revenue.sentence.endswith("of those who paid.")


def test_files_of_a_release_without_amounts_are_read_beside_newer_ones(tmp_path: Path) -> None:
    half = SHOP.num_rows // 2
    pq.write_table(SHOP.slice(0, half).drop_columns(["amount"]), tmp_path / "impressions-1.parquet")
    pq.write_table(SHOP.slice(half), tmp_path / "impressions-2.parquet")
    found = readout(Parquet(f"{tmp_path}/impressions*.parquet"), EXPERIMENT).revenue
    assert found is not None
    assert found.orders == pc.sum(SHOP["ordered"]).as_py()
    assert found.priced_orders == pc.sum(SHOP["ordered"].slice(half)).as_py()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_logs_own_sums_give_the_same_readout(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        log: EventLog = SqliteEventLog(tmp_path / "events.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        log = PostgresEventLog(f"{server.url}?schema=revenue")
    rows = SHOP.slice(0, 1000).to_pylist()
    shown, orders = [], []
    for number, row in enumerate(rows):
        ts = NOON + timedelta(minutes=number)
        about = (row["user_id"], row["variant"], row["model_version"])
        search = SearchRecord(row["query_id"], about[0], ts, *about[1:], took_ms=5.0, results=1)
        shown.append((search, [Impression(row["query_id"], "i", 1, *about, ts)]))
        if row["ordered"]:
            orders.append(Click(row["query_id"], "order", row["query_id"], "i", ts, row["amount"]))
    log.record_all(shown, [orders])
    searches = log.searches()
    by_row = readout(log.joined(), EXPERIMENT, searches)
    by_query = readout_of_sums(
        sum_up_queries(log.by_query(), EXPERIMENT, searches, lambda *_: ()), EXPERIMENT
    )
    expected = readout(pa.Table.from_pylist(rows), EXPERIMENT)
    log.close()
    assert by_row.revenue == by_query.revenue == expected.revenue
    assert metric(by_row, "revenue per user") == metric(by_query, "revenue per user")
    assert metric(by_row, "revenue per user").difference == pytest.approx(
        metric(expected, "revenue per user").difference
    )
