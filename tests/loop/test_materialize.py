"""What shoppers did before and since counts, and each impression once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr import wiring
from immr.data.contract import IMPRESSIONS
from immr.errors import ContractError
from immr.loop import materialize as item_features
from immr.settings import Settings
from immr.types import Impression
from tests.support import tiny_training_set

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
ITEM = "item-0-red"


def shown(query_id: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "query_id": query_id,
        "item_id": ITEM,
        "position": 1,
        "clicked": True,
        "ordered": False,
        "variant": "control",
        "model_version": "former-search",
        "ts": NOON,
    }
    return row | changes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A click log in two parts, one row of it broken."""
    (tmp_path / "shop" / "impressions").mkdir(parents=True)
    parts = [shown("a"), shown("b", clicked=False)], [shown("c"), shown("d", position=0)]
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist(rows, IMPRESSIONS.columns).append_column(
            "seen_on", pa.array(["web"] * 2)
        )
        pq.write_table(table, tmp_path / "shop" / "impressions" / f"{number}.parquet")
    return tmp_path / "shop"


def test_of_a_click_log_in_parts_those_count_that_keep_the_contract(tmp_path: Path, data: Path) -> None:
    features = item_features.of_click_log(tiny_training_set.write(tmp_path), data).to_pylist()
    assert [row["impressions_7d"] for row in features] == [3, 0, 0, 0, 0, 0]
    assert features[0]["clicks_7d"] == 2


def test_what_was_exported_from_the_event_log_counts_once(tmp_path: Path, data: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    events = wiring.event_log(settings)
    later = NOON + timedelta(hours=1)
    events.record_impressions(
        [Impression(name, ITEM, 1, "u", "champion", "immr-1", later) for name in ("c", "e")]
    )
    events.close()
    training_set = tiny_training_set.write(tmp_path)
    features = item_features.of_click_log_and_events(settings, training_set, data).to_pylist()
    # of a, b, c and e; what the event log says of c is newer
    assert (features[0]["impressions_7d"], features[0]["clicks_7d"]) == (4, 1)


def test_a_folder_without_a_click_log_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"impressions\.parquet is missing"):
        item_features.of_click_log(tiny_training_set.write(tmp_path), tmp_path)
