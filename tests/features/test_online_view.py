from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from immr.features.definitions import FEATURES, VIEW
from immr.features.feast_store import FeastFeatures
from immr.features.item_stats import SCHEMA
from immr.features.online_view import OnlineView

NOW = datetime(2025, 6, 8, 12, tzinfo=UTC)


@pytest.fixture
def view(tmp_path: Path) -> OnlineView:
    from feast import FeatureStore

    row = {
        "item_id": "tea",
        "price": 2.0,
        "category": "Drinks",
        "impressions_7d": 30,
        "clicks_7d": 3,
        "ctr_7d": 0.1,
        "stock": None,
        "updated_at": NOW,
        "event_timestamp": NOW,
    }
    FeastFeatures(tmp_path).materialize(pa.Table.from_pylist([row], SCHEMA))
    return OnlineView(FeatureStore(str(tmp_path)), VIEW, FEATURES, "item_id")


def test_values_come_in_the_order_of_the_features(view: OnlineView) -> None:
    found = view.read(["tea", "unknown"])
    assert list(found) == ["tea"]
    values = dict(zip(FEATURES, found["tea"], strict=True))
    assert (values["price"], values["category"], values["clicks_7d"]) == (2.0, "Drinks", 3)
    assert values["stock"] is None
    assert values["updated_at"] == NOW


def test_newest_is_the_time_of_the_newest_row(view: OnlineView) -> None:
    assert view.newest(["tea", "unknown"]) == NOW
    assert view.newest(["unknown"]) is None
