"""The Feast repository: `feature_store.yaml`, and the entities, sources and views of items and users."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from typing import Any

from immr.features.redis_url import RedisUrl, connection_string
from immr.features.user_clicks import USER_TTL

PROJECT = "immr"
VIEW = "item_stats"
PUSH_SOURCE = "item_stats_push"
REGISTRY_FILE = "data/registry.db"
ONLINE_FILE = "data/online.db"
OFFLINE_FILE = "data/item_stats.parquet"
USER_VIEW = "user_clicks"
USER_FEATURES = ("items", "categories", "prices", "attributes")
FEATURES = ("price", "category", "impressions_7d", "clicks_7d", "ctr_7d", "stock", "updated_at")

TTL = timedelta(0)
"""Rows never expire: last week's CTR ranks better than none. `freshness` shows how old they are."""


_REGISTRY_FILE_YAML = f"""\
path: {REGISTRY_FILE}
registry_store_type: immr.features.registry_file.WholeFileRegistryStore
cache_ttl_seconds: 0  # read again when the file changes
serve_features_while_materializing: true
"""


def feature_store_yaml(online_store: str, registry: str = _REGISTRY_FILE_YAML) -> str:
    """The text of `feature_store.yaml`, with the given lines of YAML for the online store and the registry."""
    return f"""\
# Created by IMMR. Your changes (another online store, another registry) are kept.
project: {PROJECT}
provider: local
registry:
{textwrap.indent(registry.rstrip(), "  ")}
online_store:
{textwrap.indent(online_store, "  ")}
offline_store:
  type: file
entity_key_serialization_version: 3
"""


FEATURE_STORE_YAML = feature_store_yaml(f"type: sqlite\npath: {ONLINE_FILE}")


def on_redis(url: RedisUrl, registry: str = _REGISTRY_FILE_YAML) -> str:
    """`feature_store.yaml` with Feast's Redis store. Reads time out after 1 s, since searches wait for them."""
    address = connection_string(url, socket_connect_timeout=1, socket_timeout=1)
    return feature_store_yaml(f"type: redis\nconnection_string: {address}", registry)


def definitions() -> list[Any]:
    """Everything that is applied: entities, sources, and the views `user_clicks` and `item_stats`."""
    from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
    from feast.types import Array, Float64, Int64, String, UnixTimestamp

    item = Entity(
        name="item",
        join_keys=["item_id"],
        value_type=ValueType.STRING,
        description="An item of the catalogue",
    )
    offline = FileSource(name="item_stats_file", path=OFFLINE_FILE, timestamp_field="event_timestamp")
    push = PushSource(name=PUSH_SOURCE, batch_source=offline)
    view = FeatureView(
        name=VIEW,
        entities=[item],
        ttl=TTL,
        source=push,
        schema=[
            Field(name="item_id", dtype=String),
            Field(name="price", dtype=Float64),
            Field(name="category", dtype=String),
            Field(name="impressions_7d", dtype=Int64),
            Field(name="clicks_7d", dtype=Int64),
            Field(name="ctr_7d", dtype=Float64),
            Field(name="stock", dtype=Float64),
            Field(name="updated_at", dtype=UnixTimestamp),
        ],
        description="Price, category, stock, age, and impressions and clicks of 7 days",
    )
    user = Entity(
        name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="A user or visitor"
    )
    clicks = FeatureView(
        name=USER_VIEW,
        entities=[user],
        ttl=USER_TTL,
        source=None,  # online only, so that there is one place to delete a user from
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="items", dtype=Array(String)),
            Field(name="categories", dtype=Array(String)),
            Field(name="prices", dtype=Array(Float64)),
            Field(name="attributes", dtype=Array(String)),
        ],
        description="A user's recent clicks, newest first; attributes are JSON",
    )
    return [item, user, offline, push, clicks, view]
