import yaml

from immr.features.definitions import FEATURE_STORE_YAML, FEATURES, definitions, on_redis
from immr.features.item_stats import SCHEMA
from immr.features.redis_url import RedisUrl
from immr.types import ItemFeatures


def test_the_view_has_the_features_that_are_read_and_written() -> None:
    view = definitions()[-1]
    names = {field.name for field in view.schema}
    assert names - {"item_id"} == set(FEATURES)
    assert set(FEATURES) | {"item_id", "event_timestamp"} == set(SCHEMA.names)
    assert set(FEATURES) <= set(ItemFeatures.__dataclass_fields__)


def test_the_online_store_is_sqlite_or_redis() -> None:
    assert yaml.safe_load(FEATURE_STORE_YAML)["online_store"]["type"] == "sqlite"
    store = yaml.safe_load(on_redis(RedisUrl("cache", 6380, 2)))["online_store"]
    assert store["type"] == "redis"
    assert store["connection_string"].startswith("cache:6380,db=2,")
    assert "socket_timeout=1" in store["connection_string"]
