"""Replicas of MLflow's server on one empty PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psycopg
import pytest

from immr.registry.server import _LOCK, create_tables
from tests.support.patience import until
from tests.support.postgres_server import PostgresServer


def url_of(postgres: PostgresServer, database: str) -> str:
    """An empty database on the server, with the driver that k8s/base/mlflow names."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"')
    return postgres.url.replace("postgresql:", "postgresql+psycopg:").removesuffix("immr") + database


def server(database: str) -> subprocess.Popen[str]:
    """A server that ends once it would start to serve."""
    return subprocess.Popen(
        [sys.executable, "-m", "immr.registry.server", "--help"],
        env=os.environ | {"MLFLOW_BACKEND_STORE_URI": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_of_two_replicas_one_creates_the_tables_and_both_become_servers(postgres: PostgresServer) -> None:
    """Both migrated at once, and one ended with an error, since PostgreSQL had a type of that name already."""
    database = url_of(postgres, "two-replicas")
    outputs = [process.communicate(timeout=300)[0] for process in [server(database), server(database)]]
    assert all("Usage: " in output for output in outputs), outputs
    assert sum("created MLflow's tables" in output for output in outputs) == 1
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT name, artifact_location FROM experiments").fetchall() == [
            ("Default", "mlflow-artifacts:/0")
        ]


def test_a_replica_waits_while_another_creates_the_tables(postgres: PostgresServer) -> None:
    database = url_of(postgres, "locked")
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        waiting = server(database)
        until(lambda: other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
        assert other.execute("SELECT to_regclass('experiments')").fetchone() == (None,)
    waiting.communicate(timeout=300)
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('experiments')").fetchone() == ("experiments",)


def test_a_database_that_does_not_answer_is_waited_for() -> None:
    from sqlalchemy.exc import OperationalError

    before = time.monotonic()
    with pytest.raises(OperationalError):
        create_tables("postgresql+psycopg://immr@127.0.0.1:9/immr", patience_s=1.0)
    assert time.monotonic() - before >= 1.0
    create_tables("sqlite:///nowhere/at/all.db")
