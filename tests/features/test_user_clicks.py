import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from immr.data.attributes import CLASS
from immr.features.user_clicks import (
    CLICKS_BY_USER,
    USER_CLICKS,
    USER_WINDOW,
    USERS_SCHEMA,
    age_warning,
    user_clicks,
)
from immr.types import Item

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ITEMS = [
    Item("shoe", "", "", "Shoes/Red", "", 40.0, NOW, attributes={"brand": "Nike", "size": 42.0, CLASS: "7"}),
    Item("hat", "", "", "Hats", "", 10.0, NOW),
]


def clicks(*rows: tuple[str, str, timedelta]) -> pa.Table:
    """Clicks of a user on an item, so long ago."""
    return pa.Table.from_pylist(
        [
            {"user_id": user, "query_id": f"q{number}", "item_id": item, "ts": NOW - ago}
            for number, (user, item, ago) in enumerate(rows)
        ],
        CLICKS_BY_USER,
    )


def test_clicks_are_newest_first_as_the_catalogue_describes_the_items() -> None:
    made = user_clicks(
        ITEMS, clicks(("ann", "hat", timedelta(days=2)), ("ann", "shoe", timedelta(days=1))), NOW
    )
    assert made.schema == USERS_SCHEMA
    [ann] = made.to_pylist()
    assert (ann["user_id"], ann["items"], ann["event_timestamp"]) == ("ann", ["shoe", "hat"], NOW)
    assert (ann["categories"], ann["prices"]) == (["Shoes/Red", "Hats"], [40.0, 10.0])
    assert [json.loads(text) for text in ann["attributes"]] == [{"brand": "Nike", "size": 42.0}, {}]


def test_old_later_and_unknown_clicks_do_not_count() -> None:
    made = user_clicks(
        ITEMS,
        clicks(
            ("old", "hat", USER_WINDOW),
            ("later", "hat", timedelta(seconds=-1)),
            ("gone", "sold out", timedelta(0)),
            ("now", "hat", timedelta(0)),
        ),
        NOW,
    )
    assert made["user_id"].to_pylist() == ["now"]


def test_the_newest_clicks_are_kept() -> None:
    many = [("ann", "hat" if n else "shoe", timedelta(minutes=n)) for n in range(USER_CLICKS + 5)]
    [ann] = user_clicks(ITEMS, clicks(*many), NOW).to_pylist()
    assert len(ann["items"]) == USER_CLICKS
    assert ann["items"][0] == "shoe"
    bounded = user_clicks(ITEMS, clicks(("ben", "hat", timedelta(hours=1)), *many), NOW, most=3)
    assert {row["user_id"]: len(row["items"]) for row in bounded.to_pylist()} == {"ann": 3}


def test_without_clicks_there_are_no_users() -> None:
    assert user_clicks(ITEMS, CLICKS_BY_USER.empty_table(), NOW).num_rows == 0


def test_a_log_that_is_too_old_for_features_of_users_is_noticed() -> None:
    assert age_warning(NOW, NOW + timedelta(days=7)) == ""
    assert "the newest event is of 2026-03-01, more than 7 days ago" in age_warning(
        NOW, NOW + timedelta(days=8)
    )
