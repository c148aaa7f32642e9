import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.errors import ContractError
from immr.features.item_stats import COLUMNS, COUNTS_SCHEMA, PRIOR_IMPRESSIONS, SCHEMA, appended, item_stats
from immr.types import Item

NOW = datetime(2025, 6, 8, 12, tzinfo=UTC)
ITEMS = [Item(name, name, "", f"Fruit/{name}", "x.jpg", 2.0, NOW) for name in ("pear", "apple", "kiwi")]


def _impressions(rows, zone="UTC"):
    return pa.table(
        {
            "query_id": [f"q{n}" for n in range(len(rows))],
            "item_id": [row[0] for row in rows],
            "position": [1] * len(rows),
            "clicked": [row[1] for row in rows],
            "ordered": [False] * len(rows),
            "variant": ["A"] * len(rows),
            "model_version": ["immr-1"] * len(rows),
            "ts": pa.array([row[2] for row in rows], pa.timestamp("us", tz=zone)),
        }
    )


ROWS = [("apple", n < 6, NOW - timedelta(hours=n)) for n in range(20)] + [
    ("pear", n < 1, NOW - timedelta(days=1, hours=n)) for n in range(50)
]


def _by_item(table):
    return {row["item_id"]: row for row in table.to_pylist()}


def test_counts_and_smoothing():
    table = item_stats(ITEMS, _impressions(ROWS), NOW)
    assert table.schema == SCHEMA
    assert tuple(table.column_names) == COLUMNS
    assert table["item_id"].to_pylist() == ["apple", "kiwi", "pear"]
    rows = _by_item(table)
    mean = 7 / 70
    assert (rows["apple"]["impressions_7d"], rows["apple"]["clicks_7d"]) == (20, 6)
    assert rows["apple"]["ctr_7d"] == pytest.approx((6 + PRIOR_IMPRESSIONS * mean) / (20 + PRIOR_IMPRESSIONS))
    assert rows["kiwi"]["ctr_7d"] == pytest.approx(mean)  # never shown: the mean
    assert rows["kiwi"]["event_timestamp"] == NOW
    assert rows["pear"]["category"] == "Fruit/pear"


def test_the_window_ends_with_now_and_leaves_out_its_start():
    rows = [
        ("apple", True, NOW),
        ("apple", True, NOW + timedelta(microseconds=1)),
        ("apple", True, NOW - timedelta(days=7)),
        ("apple", True, NOW - timedelta(days=7) + timedelta(microseconds=1)),
    ]
    assert _by_item(item_stats(ITEMS, _impressions(rows), NOW))["apple"]["impressions_7d"] == 2
    assert (
        _by_item(item_stats(ITEMS, _impressions(rows), NOW, timedelta(days=8)))["apple"]["impressions_7d"]
        == 3
    )


def test_no_impressions_gives_rows_of_zeros():
    rows = item_stats(ITEMS, _impressions([]), NOW).to_pylist()
    assert [(row["impressions_7d"], row["clicks_7d"], row["ctr_7d"]) for row in rows] == [(0, 0, 0.0)] * 3


def test_items_that_left_the_catalogue_do_not_count():
    extra = [*ROWS, *[("gone", True, NOW)] * 100]
    assert item_stats(ITEMS, _impressions(extra), NOW) == item_stats(ITEMS, _impressions(ROWS), NOW)


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_time_zones_do_not_move_the_window(zone):
    rows = ROWS if zone else [(item, clicked, ts.replace(tzinfo=None)) for item, clicked, ts in ROWS]
    there = NOW.astimezone(timezone(timedelta(hours=9)))
    assert item_stats(ITEMS, _impressions(rows, zone), there) == item_stats(ITEMS, _impressions(ROWS), NOW)


def test_row_order_does_not_matter_and_items_may_be_a_table():
    expected = item_stats(ITEMS, _impressions(ROWS), NOW)
    table = pa.Table.from_pylist(
        [
            {
                "item_id": item.item_id,
                "price": item.price,
                "category": item.category,
                "updated_at": item.updated_at,
            }
            for item in ITEMS
        ]
    )
    assert item_stats(table, _impressions(ROWS[::-1]), NOW) == expected


def test_stock_and_age_come_from_the_item():
    items = [dataclasses.replace(ITEMS[0], stock=4.0), *ITEMS[1:]]
    rows = _by_item(item_stats(items, _impressions(ROWS), NOW))
    assert {name: row["stock"] for name, row in rows.items()} == {"pear": 4.0, "apple": None, "kiwi": None}
    assert {row["updated_at"] for row in rows.values()} == {NOW}


def test_a_file_of_impressions_gives_the_same(tmp_path):
    pq.write_table(_impressions(ROWS), tmp_path / "impressions.parquet")
    assert item_stats(ITEMS, tmp_path / "impressions.parquet", NOW) == item_stats(
        ITEMS, _impressions(ROWS), NOW
    )


def test_live_counts_are_added_and_queries_left_out(tmp_path):
    live = pa.Table.from_pylist(
        [
            {"item_id": "apple", "impressions": 3, "clicks": 1},
            {"item_id": "apple", "impressions": 2, "clicks": 0},
        ],
        COUNTS_SCHEMA,
    )
    without = pa.table({"query_id": ["q0", "q1"]})
    apple = _by_item(item_stats(ITEMS, _impressions(ROWS), NOW, live=live, without_queries=without))["apple"]
    assert (apple["impressions_7d"], apple["clicks_7d"]) == (20 + 5 - 2, 6 + 1 - 2)
    for number in range(2):
        pq.write_table(without.slice(number, 1), tmp_path / f"{number}.parquet")
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    of_files = item_stats(ITEMS, _impressions(ROWS), NOW, live=live, without_queries=files)
    assert _by_item(of_files)["apple"] == apple


def test_broken_input_is_refused():
    with pytest.raises(ContractError, match="no time zone"):
        item_stats(ITEMS, _impressions(ROWS), NOW.replace(tzinfo=None))
    with pytest.raises(ContractError, match="no column clicked"):
        item_stats(ITEMS, _impressions(ROWS).drop_columns(["clicked"]), NOW)
    with pytest.raises(ContractError, match="twice"):
        item_stats([*ITEMS, ITEMS[0]], _impressions(ROWS), NOW)


def test_offline_the_newest_rows_are_kept():
    older, rows = (
        pa.table({"item_id": ["a", "b", "c"]}),
        pa.table({"item_id": ["d", "e"], "stock": [1.0, 2.0]}),
    )
    assert appended(older, rows)["item_id"].to_pylist() == ["a", "b", "c", "d", "e"]
    assert appended(older, rows, most=3)["item_id"].to_pylist() == ["c", "d", "e"]
    assert appended(older, rows, most=1)["item_id"].to_pylist() == ["d", "e"]
    assert appended(older, rows)["stock"].to_pylist() == [None, None, None, 1.0, 2.0]
