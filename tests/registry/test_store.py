"""The connection to MLflow: URLs, errors, start-up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from immr.errors import RegistryError
from immr.registry.registry import Registry

HIDES_TELEMETRY = ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def test_a_refusal_by_mlflow_is_a_registry_error(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="failed in set_terminated"):
        registry.runs.finish("no-such-run")


@pytest.mark.parametrize("url", ["postgresql://db/mlflow", "mlflow.db", ""])
def test_urls_of_other_schemes_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="not a registry URL"):
        Registry(url, "immr", tmp_path / "promotions.jsonl")


def test_options_of_a_sqlite_url_are_refused(tmp_path: Path) -> None:
    """They became a part of the file's name."""
    with pytest.raises(RegistryError, match=r"mlflow\.db\?timeout=30' has options, and MLflow takes none"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db?timeout=30", "immr", tmp_path / "promotions.jsonl")


def test_mlflow_starts_no_threads_and_prints_nothing(registry: Registry, home: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path; from immr.registry.registry import Registry\n"
        "home = Path(sys.argv[1])\n"
        "registry = Registry(f'sqlite:///{home}/mlflow/mlflow.db', 'immr', home / 'log.jsonl')\n"
        "assert 'mlflow' not in sys.modules, 'imported too early'\n"
        "registry.runs.start('concept', {}, key='k')\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)],
        capture_output=True,
        text=True,
        cwd=home,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name not in HIDES_TELEMETRY},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in home.iterdir()) == ["mlflow"]


@pytest.mark.slow
def test_two_processes_can_create_the_database_at_the_same_time(tmp_path: Path) -> None:
    """The second waits for the first and uses its database."""
    code = (
        "import sys; from pathlib import Path; from immr.registry.registry import Registry\n"
        "home = Path(sys.argv[1])\n"
        "registry = Registry(f'sqlite:///{home}/new/mlflow.db', 'immr', home / 'log.jsonl')\n"
        "print(registry.runs.start('concept', {}, key=sys.argv[2]))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), key], stdout=subprocess.PIPE, text=True)
        for key in ("a", "b")
    ]
    first, second = (process.communicate(timeout=120)[0].strip() for process in running)
    assert [process.returncode for process in running] == [0, 0]
    registry = Registry(f"sqlite:///{tmp_path}/new/mlflow.db", "immr", tmp_path / "log.jsonl")
    assert registry.runs.start("concept", {}, key="a") == first
    assert registry.runs.start("concept", {}, key="b") == second


def test_importing_mlflow_triggers_no_garbage_collection(home: Path) -> None:
    """Every rollback waits for this import. A second registry in the same process freezes nothing more."""
    code = (
        "import gc, sys\n"
        "from pathlib import Path\n"
        "from immr.registry.registry import Registry\n"
        "def ask():\n"
        "    home = Path(sys.argv[1])\n"
        "    Registry(f'sqlite:///{home}/mlflow/mlflow.db', 'immr', home / 'promotions.jsonl').versions()\n"
        "    return gc.get_freeze_count()\n"
        "looked = []\n"
        "gc.callbacks.append(lambda phase, info: looked.append('mlflow' in sys.modules))\n"
        "assert ask() > 100_000\n"
        "assert looked.count(True) < 20, looked.count(True)\n"
        "assert gc.isenabled()\n"
        "before = gc.get_freeze_count()\n"
        "assert ask() <= before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_command_that_talks_to_a_server_does_not_import_feast() -> None:
    """Feast has a plugin for MLflow that would import all of it with the first request."""
    script = (
        "import sys\n"
        "from immr.errors import RegistryError\n"
        "from immr.registry.store import Store\n"
        "try: Store('http://127.0.0.1:9', 'immr').call('search_experiments')\n"
        "except RegistryError: pass\n"
        "print([name in sys.modules for name in ('mlflow.tracking.request_header.registry', 'feast')])\n"
    )
    environment = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[True, False]\n"
