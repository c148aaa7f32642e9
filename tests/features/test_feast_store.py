"""What embedded Feast adds to the contract: the folder, other processes, and damage."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import feast
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.errors import FeaturesUnavailableError, SettingsError
from immr.features import item_view
from immr.features.definitions import FEATURE_STORE_YAML, USER_VIEW, definitions
from immr.features.feast_store import FeastFeatures
from immr.features.item_stats import SCHEMA
from immr.features.user_clicks import USERS_SCHEMA
from immr.settings import Settings
from immr.wiring import connect
from tests.support import redis_process

NOW = datetime(2025, 6, 8, 12, tzinfo=UTC)
NAMES = [f"i{n}" for n in range(40)]

WRITE_ELSEWHERE = """
import sys
from datetime import datetime
from pathlib import Path
import pyarrow.parquet as pq
from immr.features.feast_store import FeastFeatures
stats = pq.read_table(sys.argv[2])
store = FeastFeatures(Path(sys.argv[1]))
print("writing", flush=True)
for _ in range(5):
    store.push(stats)
    store.materialize(stats)
print("done", flush=True)
"""


def _stats(clicks=3):
    rows = len(NAMES)
    columns = [
        NAMES,
        [2.0] * rows,
        ["Fruit"] * rows,
        [30] * rows,
        [clicks] * rows,
        [0.1] * rows,
        [5.0] * rows,
        [NOW] * rows,
        [NOW] * rows,
    ]
    return pa.table(
        [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)], SCHEMA
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "features"


@pytest.mark.slow
def test_reads_continue_while_another_process_pushes_and_materializes(folder, tmp_path):
    store = FeastFeatures(folder)
    store.materialize(_stats(clicks=1))
    pq.write_table(_stats(clicks=2), tmp_path / "stats.parquet")
    command = [sys.executable, "-c", WRITE_ELSEWHERE, str(folder), str(tmp_path / "stats.parquet")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        reads = 0
        while process.poll() is None:
            found = store.read(NAMES)
            assert len(found) == len(NAMES)
            assert len({features.clicks_7d for features in found.values()}) == 1
            reads += 1
            time.sleep(0.01)  # leave the writer some CPU
        assert process.stdout.read() == "writing\ndone\n"  # Feast's own output is suppressed
        assert process.returncode == 0
    assert reads > 10
    assert {features.clicks_7d for features in store.read(NAMES).values()} == {2}


def test_a_push_is_appended_offline_and_materializing_starts_over(folder):
    store = FeastFeatures(folder)
    offline = folder / "data" / "item_stats.parquet"
    store.materialize(_stats())
    store.push(_stats(clicks=4))
    assert pq.read_table(offline).num_rows == 2 * len(NAMES)
    store.materialize(_stats())
    assert pq.read_table(offline).schema.equals(SCHEMA)
    assert pq.read_table(offline).num_rows == len(NAMES)


@pytest.mark.parametrize("write", ["materialize", "push"])
def test_items_are_written_in_parts(folder, monkeypatch, write):
    """Feast made objects of all items at once: 6 GB of a million."""
    monkeypatch.setattr(item_view, "_ROWS_AT_ONCE", 15)
    FeastFeatures(folder).materialize(_stats(3))
    written = []
    push = feast.FeatureStore.push

    def noted(self, name, rows, *others, **more):
        written.append(len(rows))
        push(self, name, rows, *others, **more)

    monkeypatch.setattr(feast.FeatureStore, "push", noted)
    store = FeastFeatures(folder)
    getattr(store, write)(_stats(4))
    assert written == [15, 15, 10]
    assert {found.clicks_7d for found in store.read(NAMES).values()} == {4} and len(store.read(NAMES)) == 40


def test_definitions_are_applied_once(folder):
    FeastFeatures(folder).materialize(_stats())
    applied = folder / "data" / "applied.json"
    before = applied.stat().st_mtime_ns
    FeastFeatures(folder).materialize(_stats())
    assert applied.stat().st_mtime_ns == before
    applied.write_text(json.dumps({"key": "of other definitions"}))
    FeastFeatures(folder).materialize(_stats())
    assert "other" not in applied.read_text()


def test_the_folder_may_be_moved_and_its_yaml_is_kept(folder, tmp_path):
    FeastFeatures(folder).materialize(_stats())
    assert (folder / "feature_store.yaml").read_text() == FEATURE_STORE_YAML
    own = FEATURE_STORE_YAML + "# ours\n"
    (folder / "feature_store.yaml").write_text(own)
    moved = folder.rename(tmp_path / "moved")
    store = FeastFeatures(moved)
    store.materialize(_stats(clicks=5))
    assert store.read(["i0"])["i0"].clicks_7d == 5
    assert (moved / "feature_store.yaml").read_text() == own


@pytest.mark.parametrize("damaged", ["data/registry.db", "data/online.db"])
def test_a_damaged_store_is_reported_as_unavailable(folder, damaged):
    FeastFeatures(folder).materialize(_stats())
    for file in folder.glob(f"{damaged}*"):
        file.write_bytes(b"this is neither a registry nor a database" * 100)
    with pytest.raises(FeaturesUnavailableError, match="does not answer"):
        FeastFeatures(folder).read(["i0"])


def test_a_reader_reconnects_after_an_outage(folder, monkeypatch):
    store = FeastFeatures(folder)
    store.materialize(_stats())
    store.read(["i0"])

    def broken(item_ids):
        raise OSError("the connection is lost")

    monkeypatch.setattr(store._online, "read", broken)  # until it is opened again
    with pytest.raises(FeaturesUnavailableError, match="the connection is lost"):
        store.read(["i0"])
    assert store.read(["i0"])["i0"].clicks_7d == 3


def test_prometheus_client_is_left_unchanged(folder):
    names = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")
    before = {
        name: os.environ.get(name) for name in names
    }  # another test's import of feast may have set them
    FeastFeatures(folder).materialize(_stats())
    FeastFeatures(folder).warm()
    assert {name: os.environ.get(name) for name in names} == before


def test_a_reader_opened_before_the_first_materialization_works_after_it(folder):
    early = FeastFeatures(folder)
    with pytest.raises(FeaturesUnavailableError):
        early.warm()
    FeastFeatures(folder).materialize(_stats())
    early.warm()
    assert early.ready


def test_in_a_store_of_an_earlier_release_nobody_has_features_until_the_next_write(folder, monkeypatch):
    def without_users():
        return [each for each in definitions() if each.name != USER_VIEW]

    with monkeypatch.context() as earlier:
        earlier.setattr("immr.features.feast_store.definitions", without_users)
        FeastFeatures(folder).materialize(_stats())
    store = FeastFeatures(folder)
    store.warm()
    assert store.read_user("ann") is None
    row = {"user_id": "ann", "items": ["i0"], "categories": ["Fruit"], "prices": [2.0], "attributes": ["{}"]}
    users = pa.Table.from_pylist([{**row, "event_timestamp": datetime.now(UTC)}], USERS_SCHEMA)
    FeastFeatures(folder).materialize(_stats(), users)
    assert store.read_user("ann") is None  # it looks again after a minute
    monkeypatch.setattr(store, "_users_from_s", 0.0)
    assert store.read_user("ann").items == ("i0",)


def test_a_stopped_redis_is_an_error_at_once(tmp_path):
    with redis_process.serving(tmp_path) as port:
        store = connect(Settings(home=tmp_path, features_url=f"redis://127.0.0.1:{port}")).features
        store.materialize(_stats())
        assert len(store.read(NAMES)) == len(NAMES)
    with pytest.raises(FeaturesUnavailableError, match="does not answer"):
        store.read(NAMES)


def test_databases_of_one_redis_are_separate(tmp_path):
    with redis_process.serving(tmp_path) as port:
        urls = [f"redis://127.0.0.1:{port}{database}" for database in ("", "/1")]
        first, second = (connect(Settings(home=tmp_path, features_url=url)).features for url in urls)
        first.materialize(_stats(clicks=1))
        second.materialize(_stats(clicks=2))
        assert [store.read(["i0"])["i0"].clicks_7d for store in (first, second)] == [1, 2]


@pytest.mark.parametrize(
    "url", ["redis://", "redis://:secret@host:6379", "redis://host/one", "redis://h?ssl=1"]
)
def test_a_redis_url_with_other_options_is_refused(tmp_path, url):
    with pytest.raises(SettingsError, match=r"a feature_store\.yaml of your own"):
        _ = connect(Settings(home=tmp_path, features_url=url)).features
