"""A really bad challenger behind a running gateway is rolled back automatically."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from immr.experiment.assignment import assign
from immr.experiment.changes import begin
from immr.experiment.file import load, save
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.app import Gateway, create_gateway_app
from tests.support import tiny_version
from tests.support.in_process import serve, served_version, wait_ready
from tests.support.patience import until


def register_two(settings: Settings) -> None:
    """immr-1 and immr-2, as the registry knows them; the challenger plays its role."""
    registry = connect(settings).registry
    folder = settings.home / "trained"
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    for key in ("one", "two"):
        run_id = registry.runs.start(key, {}, key=key)
        registry.register(
            folder, key, run_id, dim=8, preprocessing_hash="p", manifest_hash="m", recipe="concept"
        )
        registry.runs.finish(run_id)
    registry.set_role("champion", registry.get("immr-1"))
    registry.set_role("challenger", registry.get("immr-2"))


def ask(client: httpx.Client, user: str) -> httpx.Response:
    return client.post(
        "/v1/search", files={"image": tiny_version.photo("red")}, data={"user_id": user, "k": "5"}
    )


def wait_until_recorded(settings: Settings, searches: int) -> None:
    """Searches get to the log after their answers."""
    log = connect(settings).events
    until(lambda: log.searches().num_rows >= searches)
    log.close()


@contextmanager
def deciding(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Repeats `immr experiment decide --apply`, as one leaves it running beside a gateway."""
    command = ["-m", "immr.cli", "experiment", "decide", "--apply", "--every", "1s"]
    process = subprocess.Popen(
        [sys.executable, *command], env={**os.environ, **settings.environment()}, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_challenger_that_is_down_is_rolled_back_within_two_minutes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    register_two(settings)
    catalogue = tiny_version.items(tmp_path / "pictures")
    folder = tiny_version.write_packaged(tmp_path / "immr-1", 1)
    tiny_version.build_index(settings, folder, catalogue, 1)
    with socket.socket() as held, served_version(settings, folder) as champion_url:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        dead_url = f"http://127.0.0.1:{held.getsockname()[1]}"
        wait_ready(champion_url)
        running = begin(
            ("immr-1", champion_url), {"challenger": ("immr-2", dead_url)}, 0.5, datetime.now(UTC)
        )
        save(running, settings.experiment_file)
        gateway = serve(create_gateway_app(Gateway(connect(settings))))
        started = time.monotonic()
        try:
            with httpx.Client(base_url=gateway.url, timeout=10) as client, deciding(settings) as decider:
                users = [f"user-{number}" for number in range(40)]
                assert {ask(client, user).status_code for user in users} == {200}  # shoppers notice nothing
                assert decider.wait(timeout=120) == 0
                took_s = time.monotonic() - started
                user = next(user for user in users if assign(running, user).name == "challenger")
                assert ask(client, user).json()["variant"] == "champion"
        finally:
            gateway.stop()
    assert took_s < 120
    assert load(settings.experiment_file).state == "stopped"
    assert connect(settings).registry.role("challenger") is None
    [written] = connect(settings).registry.decisions()
    assert written["action"] == "roll back"
    assert "The challenger fails" in written["reason"]
