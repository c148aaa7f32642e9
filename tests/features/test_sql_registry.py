"""Feast's registry in a real PostgreSQL; the same cases as for a file are in tests/contracts."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
import yaml

from immr.errors import FeaturesUnavailableError, SettingsError
from immr.features.item_stats import SCHEMA
from immr.features.sql_registry import SqlRegistry
from immr.settings import Settings
from immr.wiring import connect
from tests.support import redis_process
from tests.support.postgres_server import PostgresServer

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_process.serving(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def settings(redis_port: int, postgres: PostgresServer, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        features_url=f"redis://127.0.0.1:{redis_port}",
        features_registry_url=f"{postgres.url}?schema=features_{uuid.uuid4().hex}",
    )


def stats() -> pa.Table:
    row = {"item_id": "apple", "price": 2.0, "category": "Fruit", "impressions_7d": 30, "clicks_7d": 3,
           "ctr_7d": 0.1, "stock": 7.0, "updated_at": NOW, "event_timestamp": NOW}  # fmt: skip
    return pa.Table.from_pylist([row], SCHEMA)


def tables(settings: Settings) -> set[str]:
    url, _, schema = settings.features_registry_url.partition("?schema=")
    with psycopg.connect(url) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
        return {name for (name,) in connection.execute(query, [schema])}


def test_the_definitions_are_in_the_database_and_no_file_holds_them(settings: Settings) -> None:
    connect(settings).features.materialize(stats())
    assert {"feature_views", "entities"} <= tables(settings)
    assert not list(settings.home.rglob("registry.db"))


def test_a_process_with_the_same_settings_reads_what_another_one_wrote(settings: Settings) -> None:
    connect(settings).features.materialize(stats())
    assert connect(settings).features.read(["apple"])["apple"].clicks_7d == 3


def test_the_page_asks_for_the_age_of_features_without_feast(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's image has no Feast."""
    for missing in ("feast", "sqlalchemy", "yaml", "redis"):
        monkeypatch.setitem(sys.modules, missing, None)
    assert connect(settings).features.freshness() is None


def test_options_of_the_connection_reach_sqlalchemy() -> None:
    from sqlalchemy import make_url

    registry = SqlRegistry("s", "db", {"user": "im mr", "host": "db", "port": "6543", "dbname": "shop/a",
                                       "options": "-c search_path=s", "sslmode": "verify-full"})  # fmt: skip
    url = make_url(yaml.safe_load(registry.yaml())["path"])
    assert (url.drivername, url.username, url.host, url.port, url.database) == (
        "postgresql+psycopg", "im mr", "db", 6543, "shop/a",
    )  # fmt: skip
    assert url.query == {"options": "-c search_path=s", "sslmode": "verify-full"}


def test_a_registry_that_was_lost_is_written_again(settings: Settings) -> None:
    connect(settings).features.materialize(stats())
    url, _, schema = settings.features_registry_url.partition("?schema=")
    with psycopg.connect(url) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")
    again = connect(settings).features
    again.materialize(stats())
    assert again.read(["apple"])["apple"].price == 2.0


def test_a_database_that_is_away_is_named(settings: Settings) -> None:
    away = settings.model_copy(update={"features_registry_url": "postgresql://immr@127.0.0.1:9/immr"})
    with pytest.raises(FeaturesUnavailableError, match=r"127\.0\.0\.1:9/immr .*IMMR_FEATURES_REGISTRY_URL"):
        connect(away).features.materialize(stats())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features_registry_url": "postgresql://immr:hunter2@db/immr"}, "put it into the variable PGPASSWORD"),
        ({"features_registry_url": "mysql://db/immr"}, "IMMR_FEATURES_REGISTRY_URL begins with 'mysql://'"),
        ({"features_registry_url": "postgresql://db/immr?schema=A"}, "IMMR_FEATURES_REGISTRY_URL has schema=A"),
        ({"features_url": "file:///features", "features_registry_url": "postgresql://db/immr"}, "on Redis"),
        ({"features_password_file": Path("/nowhere")}, "IMMR_FEATURES_PASSWORD_FILE=/nowhere cannot be read"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    settings = Settings(**{"home": tmp_path, "features_url": "redis://cache"} | wrong)
    with pytest.raises(SettingsError, match=message) as raised:
        _ = connect(settings).features
    assert "hunter2" not in str(raised.value)
