"""State that earlier releases wrote is read by this one, and stays readable for them until a new feature is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from immr import recipes
from immr.errors import DeployError, IndexMismatchError, PackagingError
from immr.events.postgres.log import PostgresEventLog
from immr.experiment import history
from immr.experiment.file import load, save
from immr.loop.package import package
from immr.loop.serve import serve
from immr.packaging.serve import own_code
from immr.settings import Settings
from immr.wiring import connect
from tests.e2e.upgrade.write_state import (
    CLICKS,
    SEARCHES,
    STATES,
    record,
    restore_events,
    settings_of,
    unpack,
)
from tests.support import sparse_copy, tiny_version
from tests.support.postgres_server import PostgresServer
from tests.support.upstream_process import free_port

RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in STATES.glob("*.tar.xz"))


@pytest.fixture(scope="module", params=RELEASES)
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def home(unpacked: Path, tmp_path: Path) -> Path:
    return sparse_copy.copy(unpacked, tmp_path / "home")


def test_versions_roles_and_their_files_are_found(home: Path) -> None:
    with connect(Settings(home=home)) as parts:
        assert {role: version.id for role, version in parts.registry.roles().items()} == {
            "champion": "immr-1",
            "challenger": "immr-2",
        }
        champion = parts.registry.get("champion")
        assert (parts.registry.fetch(champion, parts.settings.cache_dir) / "query_encoder.onnx").is_file()
        assert [each.version_id for each in parts.deployer.current()] == ["immr-1", "immr-2"]


def test_a_version_is_packaged_again_unless_pictures_are_read_differently_now(home: Path) -> None:
    with connect(Settings(home=home)) as parts:
        champion = parts.registry.get("champion")
        if champion.preprocessing_hash == tiny_version.PREPROCESSING.hash:
            tag = package(parts, champion, recipes.by_name("zero_shot")).bento
            code = own_code(parts.settings.bento_home / "bentos" / tag.replace(":", "/"), home / "code")
            assert code is not None and (code / "immr" / "packaging" / "serve.py").is_file()
        else:
            with pytest.raises(PackagingError, match="train it again"):
                package(parts, champion, recipes.by_name("zero_shot"))


def test_a_collection_opens(home: Path) -> None:
    with connect(settings_of(home)) as parts:
        champion = parts.registry.get("champion")
        collection = parts.index.open(champion.id, champion.dim, champion.preprocessing_hash)
        assert collection.count() == len(tiny_version.COLOURS)
        collection.close()


def test_a_collection_of_another_engine_names_the_setting(tmp_path: Path) -> None:
    with connect(Settings(home=unpack("d6ebbd8", tmp_path))) as parts:
        champion = parts.registry.get("champion")
        with pytest.raises(IndexMismatchError, match="set IMMR_INDEX_URL=file://"):
            parts.index.open(champion.id, champion.dim, champion.preprocessing_hash).count()
        # it waited two minutes, then reported that the folder did not answer
        with (
            pytest.raises(DeployError, match="set IMMR_INDEX_URL=file://"),
            serve(parts, free_port(), free_port()),
        ):
            pass


def test_events_are_kept_and_repeats_are_ignored(home: Path) -> None:
    with connect(Settings(home=home)) as parts:
        record(parts.events)
        assert parts.events.searches().num_rows == SEARCHES
        assert sum(parts.events.joined()["clicked"].to_pylist()) == CLICKS


def test_the_running_test_continues_and_the_release_before_can_still_read_it(home: Path) -> None:
    file = Settings(home=home).experiment_file
    before = json.loads(file.read_text())
    running = load(file)
    assert running.state == "running"
    save(running, file)
    assert set(json.loads(file.read_text())) <= set(before)
    assert load(file) == running
    assert all(test.outcome == "running" for test in history.read(Settings(home=home).history_file))


@pytest.mark.parametrize("release", ["9692177"])
def test_events_in_postgresql_are_kept(release: str, tmp_path: Path, postgres: PostgresServer) -> None:
    unpack(release, tmp_path)
    log = PostgresEventLog(restore_events(tmp_path, postgres, "upgrade"))
    record(log)
    assert log.searches().num_rows == SEARCHES
    assert sum(log.joined()["clicked"].to_pylist()) == CLICKS
    log.close()
