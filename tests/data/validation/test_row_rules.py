from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from immr.data.contract import IMPRESSIONS, ITEMS
from immr.data.validation.row_rules import broken, rules_of

NOW = datetime(2025, 6, 1, tzinfo=UTC)
ITEM = {
    "item_id": "a",
    "title": "Tea",
    "description": "",
    "category": "Drinks",
    "image": "a.jpg",
    "price": 1.0,
    "updated_at": pd.Timestamp(NOW),
    "stock": None,
    "images": None,
    "attributes": None,
}
SHOWN = {
    "query_id": "q",
    "item_id": "a",
    "position": 1.0,
    "clicked": True,
    "ordered": False,
    "variant": "champion",
    "model_version": "immr-1",
    "ts": pd.Timestamp(NOW),
}


ROUNDED = "item_id is a rounded number, as spreadsheets write long ones: export it as text"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"stock": 3.0}, ""),
        ({"item_id": "4.00638E+12"}, ROUNDED),  # Excel, from an EAN; other EANs become the same
        ({"item_id": "4,00638e12"}, ROUNDED),
        ({"item_id": "4E+12"}, ROUNDED),
        ({"item_id": "12e45"}, ""),  # a hexadecimal id
        ({"item_id": "a/b#c%2F😀 ü"}, ""),
        ({"item_id": "x" * 1000}, ""),
        ({"item_id": "x" * 1001}, "item_id is longer than 1000 characters"),  # no search could ask for it
        ({"item_id": "a\nb"}, "item_id has a line break or control character"),
        ({"item_id": "a\0"}, "item_id has a line break or control character"),
        ({"item_id": ".."}, "item_id is . or .., which no URL can name"),
        ({"title": "\u200b\ufeff"}, "title is empty"),  # nothing to see
        ({"title": "  "}, "title is empty"),
        ({"title": None}, "title is missing"),
        ({"price": -1.0}, "price is negative"),
        ({"price": float("inf")}, "price is not finite"),
        ({"updated_at": pd.Timestamp(NOW + timedelta(days=2))}, "updated_at is in the future"),
        ({"updated_at": pd.Timestamp(NOW + timedelta(hours=14))}, ""),  # a local time without a zone
        ({"title": None, "price": -1.0}, "title is missing"),  # the first column that is wrong
    ],
)
def test_items(changes: dict[str, object], reason: str) -> None:
    frame = pd.DataFrame([ITEM | {"item_id": "before"}, ITEM | changes])
    frame["stock"] = frame["stock"].astype(float)
    assert broken(frame, rules_of(ITEMS, NOW)).tolist() == ["", reason]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"position": 0.0}, "position is below 1: does it count from 0?"),
        ({"position": 1.5}, "position is not a whole number"),
        ({"position": 2.0**40}, "position is beyond any list"),
        ({"ts": pd.Timestamp("1970-01-20", tz="UTC")}, "ts is before 2000: is its unit right?"),
        ({"clicked": False, "ordered": True}, "ordered but not clicked"),
    ],
)
def test_impressions(changes: dict[str, object], reason: str) -> None:
    frame = pd.DataFrame([SHOWN, SHOWN | changes])
    assert broken(frame, rules_of(IMPRESSIONS, NOW)).tolist() == ["", reason]
