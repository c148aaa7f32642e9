"""What the contract does not show: the keys of the online stores, and stores that cannot delete."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from immr.errors import SettingsError
from immr.features.definitions import USER_FEATURES
from immr.features.feast_store import FeastFeatures
from immr.features.item_stats import SCHEMA
from immr.features.user_clicks import USER_TTL, USERS_SCHEMA
from immr.settings import Settings
from immr.wiring import connect
from tests.support import redis_process

NOW = datetime.now(UTC)


def stats() -> pa.Table:
    row = {"item_id": "tea", "price": 2.0, "category": "Drinks", "impressions_7d": 30, "clicks_7d": 3}
    times = {"updated_at": NOW, "event_timestamp": NOW}
    return pa.Table.from_pylist([{**row, "ctr_7d": 0.1, "stock": None, **times}], SCHEMA)


def users(*names: str) -> pa.Table:
    row = {"items": ["tea"], "categories": ["Drinks"], "prices": [2.0], "attributes": ["{}"]}
    return pa.Table.from_pylist(
        [{"user_id": name, **row, "event_timestamp": NOW} for name in names], USERS_SCHEMA
    )


def test_the_schema_has_the_features_of_the_view() -> None:
    assert set(USERS_SCHEMA.names) == {"user_id", "event_timestamp", *USER_FEATURES}


def test_redis_keeps_no_key_of_a_deleted_user_and_lets_the_others_expire(tmp_path: Path) -> None:
    import redis

    with redis_process.serving(tmp_path) as port, redis.Redis(port=port) as client:
        store = connect(Settings(home=tmp_path, features_url=f"redis://127.0.0.1:{port}")).features
        store.materialize(stats(), users("ann", "ben"))
        [ann] = client.keys("*ann*")
        assert 0 < client.ttl(ann) <= USER_TTL.total_seconds()
        [tea] = client.keys("*tea*")
        assert client.ttl(tea) == -1
        store.forget("ann")
        assert (client.keys("*ann*"), len(client.keys("*ben*"))) == ([], 1)
        store.materialize(stats())
        assert client.keys("*ben*") == []
        client.hset(b"shared", "of another view", 1)
        assert client.keys("*tea*") == [tea]


def test_no_file_of_the_folder_names_a_deleted_user(tmp_path: Path) -> None:
    store = FeastFeatures(tmp_path)
    store.materialize(stats(), users("a-user-to-forget"))
    assert any(b"a-user-to-forget" in file.read_bytes() for file in tmp_path.glob("data/online.db*"))
    store.forget("a-user-to-forget")
    named = [
        file for file in tmp_path.rglob("*") if file.is_file() and b"user-to-forget" in file.read_bytes()
    ]
    assert named == []


def test_no_file_of_the_folder_has_former_clicks_of_a_user(tmp_path: Path) -> None:
    store = FeastFeatures(tmp_path)
    items = pa.array([[f"former-{number:02d}" for number in range(50)]], USERS_SCHEMA.field("items").type)
    column = USERS_SCHEMA.names.index("items")
    store.materialize(stats(), users("ann").set_column(column, USERS_SCHEMA.field("items"), items))
    assert any(b"former-" in file.read_bytes() for file in tmp_path.glob("data/online.db*"))
    store.materialize(stats(), users("ann"))
    found = [file for file in tmp_path.rglob("*") if file.is_file() and b"former-" in file.read_bytes()]
    assert found == []


def test_a_store_that_cannot_delete_is_refused(tmp_path: Path) -> None:
    store = FeastFeatures(tmp_path)
    store.materialize(stats())
    yaml = tmp_path / "feature_store.yaml"
    yaml.write_text(
        yaml.read_text().replace("type: sqlite", "type: feast.infra.online_stores.sqlite.SqliteOnlineStore")
    )
    other = FeastFeatures(tmp_path)
    other.materialize(stats())
    with pytest.raises(SettingsError, match="cannot delete a user"):
        other.materialize(stats(), users("ann"))


def test_features_count_until_their_time_is_too_long_ago(tmp_path: Path) -> None:
    store = FeastFeatures(tmp_path)
    column = USERS_SCHEMA.names.index("event_timestamp")
    for ago, known in ((USER_TTL - timedelta(hours=1), True), (USER_TTL + timedelta(hours=1), False)):
        old = users("ann").set_column(
            column, "event_timestamp", pa.array([NOW - ago], USERS_SCHEMA.types[column])
        )
        store.materialize(stats(), old)
        assert (store.read_user("ann") is not None) == known
