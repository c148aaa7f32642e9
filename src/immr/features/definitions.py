"""What the Feast repository says: `feature_store.yaml`, and an item's entity, sources and view."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from typing import Any

PROJECT = "immr"
VIEW = "item_stats"
PUSH_SOURCE = "item_stats_push"
REGISTRY_FILE = "data/registry.db"
ONLINE_FILE = "data/online.db"
OFFLINE_FILE = "data/item_stats.parquet"
FEATURES = ("price", "category", "impressions_7d", "clicks_7d", "ctr_7d", "stock", "updated_at")

TTL = timedelta(0)
"""Rows never expire: a CTR of last week ranks better than none. Watch `freshness` for rows that got old."""


def feature_store_yaml(online_store: str) -> str:
    """`feature_store.yaml`, with an online store given as lines of YAML."""
    return f"""\
# Made by IMMR where it was missing; change it (another online store, another registry) and it stays so.
project: {PROJECT}
provider: local
registry:
  path: {REGISTRY_FILE}
  registry_store_type: immr.features.registry_file.WholeFileRegistryStore
  cache_ttl_seconds: 0  # read again when the file changes
  serve_features_while_materializing: true
online_store:
{textwrap.indent(online_store, "  ")}
offline_store:
  type: file
entity_key_serialization_version: 3
"""


FEATURE_STORE_YAML = feature_store_yaml(f"type: sqlite\npath: {ONLINE_FILE}")


def on_redis(host: str, port: int, database: int) -> str:
    """`feature_store.yaml` with Feast's Redis store. Searches wait for it: one that hangs is given up."""
    waits = "socket_connect_timeout=1,socket_timeout=1"
    return feature_store_yaml(f"type: redis\nconnection_string: {host}:{port},db={database},{waits}")


def definitions() -> list[Any]:
    """Entity `item`, its file and push sources, and the view `item_stats`, to be applied."""
    from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
    from feast.types import Float64, Int64, String, UnixTimestamp

    item = Entity(
        name="item",
        join_keys=["item_id"],
        value_type=ValueType.STRING,
        description="One thing in the catalogue",
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
        description="Price, category, stock and age, and what shoppers did in 7 days",
    )
    return [item, offline, push, view]
