"""Opening a Feast repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from immr.errors import FeaturesUnavailableError
from immr.features.definitions import feature_store_yaml, on_redis
from immr.features.redis_url import RedisUrl
from immr.features.repository import answers, close_connections, lacks_view, open_repository


def repository(folder: Path, yaml: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text(yaml)
    return folder


def test_a_password_is_in_the_connection_and_in_no_file(tmp_path: Path) -> None:
    store = open_repository(repository(tmp_path, on_redis(RedisUrl("cache"))), "hunter2")
    assert store.config.online_store.connection_string.endswith(',password="hunter2"')
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()]


def test_a_new_repository_lacks_the_view(tmp_path: Path) -> None:
    yaml = feature_store_yaml(
        "type: sqlite\npath: data/online.db", "registry_type: sql\npath: sqlite:///registry.db"
    )
    store = open_repository(repository(tmp_path, yaml.replace("sqlite:///", f"sqlite:///{tmp_path}/")))
    assert lacks_view(store)
    close_connections(store)


def test_a_missing_module_is_named_and_the_store_is_not_blamed(tmp_path: Path) -> None:
    with (
        pytest.raises(FeaturesUnavailableError, match=r"need the module nofeast, .*immr\[serve\]"),
        answers(tmp_path),
    ):
        __import__("nofeast")


def test_importing_feast_takes_little_and_changes_nothing_else() -> None:
    """typeguard would rewrite Feast's classes, and prometheus_client would go into multi-process mode."""
    script = (
        "import os, typeguard\n"
        "before = dict(os.environ), typeguard.typechecked\n"
        "from immr.features.repository import import_feast\n"
        "import_feast()\n"
        "from feast import FeatureView\n"
        "assert (dict(os.environ), typeguard.typechecked) == before\n"
        "print('typeguard' in FeatureView.__init__.__code__.co_names)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
