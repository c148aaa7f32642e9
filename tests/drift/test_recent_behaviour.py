"""What DuckDB selects from files equals what a loop over all rows would find."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.drift.recent_behaviour import recent, sample
from immr.events.event_log import JOINED_SCHEMA, SEARCHES_SCHEMA

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CATEGORY = {f"item-{number}": f"category-{number % 3}" for number in range(8)}


@pytest.fixture
def joined() -> pa.Table:
    """Impressions of 60 users and a bot, many at the same time, sorted as in the log; items 8 and 9 are new."""
    rng = np.random.default_rng(0)
    rows = []
    for query in range(300):
        user = "bot" if query < 60 else f"user-{rng.integers(60)}"
        ts = NOON + timedelta(seconds=int(query if user == "bot" else rng.integers(100)))
        for position, item in enumerate(rng.choice(10, 3, replace=False), start=1):
            rows.append(
                (
                    f"q{query}",
                    user,
                    f"item-{item}",
                    position,
                    bool(rng.random() < 0.3),
                    False,
                    None,
                    "a",
                    "m",
                    ts,
                )
            )
    rows.sort(key=lambda row: (row[9], row[0], row[3], row[2]))
    columns = [
        pa.array(values, field.type)
        for values, field in zip(zip(*rows, strict=True), JOINED_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=JOINED_SCHEMA)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos of most queries."""
    rng = np.random.default_rng(1)
    queries = rng.permutation(300)[:230].tolist()
    table = pa.table(
        {"query_id": [f"q{query}" for query in queries], "image": [f"photo-{query}" for query in queries]}
    )
    pq.write_table(table, tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


def test_it_equals_a_loop_over_all_rows(joined: pa.Table, photos: Path) -> None:
    found = recent(joined, SEARCHES_SCHEMA.empty_table(), photos, CATEGORY, 1000, 0)
    last = {row["query_id"]: row["image"] for row in pq.read_table(photos).to_pylist()}
    clicked = [row for row in joined.to_pylist() if row["clicked"] and row["user_id"] != "bot"]
    newest = {row["user_id"]: last[row["query_id"]] for row in clicked if row["query_id"] in last}
    assert found.photos == [newest[user] for user in sorted(newest)]
    items = {row["user_id"]: row["item_id"] for row in clicked}
    expected = Counter(CATEGORY.get(item, "new items") for item in items.values())
    assert found.categories == expected
    assert expected["new items"]


def test_many_photos_are_sampled_as_before(joined: pa.Table, photos: Path) -> None:
    searches = SEARCHES_SCHEMA.empty_table()
    everything = recent(joined, searches, photos, CATEGORY, 1000, 0).photos
    chosen = np.random.default_rng(7).choice(len(everything), 10, replace=False)
    assert recent(joined, searches, photos, CATEGORY, 10, 7).photos == [everything[at] for at in chosen]
    assert sample(3, 3, 0).tolist() == [0, 1, 2]


def test_an_empty_log_has_nothing(photos: Path) -> None:
    found = recent(JOINED_SCHEMA.empty_table(), SEARCHES_SCHEMA.empty_table(), photos, CATEGORY, 10, 0)
    assert (found.photos, found.categories) == ([], {})
