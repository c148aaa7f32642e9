"""Versions come and go under load, on real processes: shoppers notice nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx

from immr.experiment import changes
from immr.experiment.definition import save
from immr.settings import Settings
from immr.wiring import connect
from tests.loop.test_experiment import version_of
from tests.serving.bento.test_app import click
from tests.serving.conftest import in_threads
from tests.serving.gateway.test_overload import gateway_process
from tests.support import tiny_version
from tests.support.patience import until
from tests.support.upstream_process import await_port, free_port
from tests.support.version_process import version_process

RED = tiny_version.photo("red")


@dataclass
class Shoppers:
    """What they got: a status or an error, and which version answered."""

    answers: list[tuple[str, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def trouble(self) -> set[str]:
        return {status for status, _ in self.answers if status != "200"}

    def wait_until_served_by(self, version: str, times: int = 20) -> None:
        start = len(self.answers)
        until(
            lambda: sum(by == version for _, by in self.answers[start:]) >= times,
            told=lambda: self.answers[-5:],
        )

    def ask(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not self.done.is_set():
                try:
                    answer = client.post("/v1/search", files={"image": RED})
                    by = answer.json().get("model_version", "") if answer.status_code == 200 else ""
                    self.answers.append((str(answer.status_code), by))
                except httpx.HTTPError as error:
                    self.answers.append((type(error).__name__, ""))


@contextmanager
def shoppers(url: str, count: int = 4) -> Iterator[Shoppers]:
    made = Shoppers()
    with in_threads([partial(made.ask, url)] * count, made.done):
        yield made


def test_no_request_fails_while_a_champion_is_replaced_and_stopped(
    home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """A rolling restart: the next process comes up, the file names it, SIGTERM ends the one before."""
    settings = Settings(home=tmp_path)
    now = datetime.now(UTC)
    with ExitStack() as running:
        old = ExitStack()
        old_url = old.enter_context(version_process(home / "immr-1", environment))
        save(changes.begin(("immr-1", old_url), None, 0.0, now), settings.experiment_file)
        url = running.enter_context(gateway_process(settings))
        with shoppers(url) as asking:
            asking.wait_until_served_by("immr-1")
            new_url = running.enter_context(version_process(home / "immr-2", environment))
            save(changes.begin(("immr-2", new_url), None, 0.0, now), settings.experiment_file)
            old.close()  # at once: requests are still under way there
            asking.wait_until_served_by("immr-2", times=50)
        assert asking.trouble == set()


def test_no_request_fails_while_a_version_is_rolled_back(
    home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """By the command, with shoppers at the gateway. `pytest -s -k rolled_back` prints what it took."""
    settings = Settings(home=tmp_path)
    registry = connect(settings).registry
    for key in ("key-1", "key-2"):
        version_of(registry, tmp_path / "trained", key)
    now = datetime.now(UTC)
    with ExitStack() as running:
        urls = [
            running.enter_context(version_process(home / f"immr-{number}", environment)) for number in (1, 2)
        ]
        promoted = changes.promote(changes.begin(("immr-1", urls[0]), ("immr-2", urls[1]), 0.5, now), now)
        save(promoted, settings.experiment_file)
        registry.set_role("champion", registry.get("immr-2"))
        url = running.enter_context(gateway_process(settings))
        with shoppers(url) as asking:
            asking.wait_until_served_by("immr-2")
            before, start = len(asking.answers), time.monotonic()
            command = [Path(sys.executable).with_name("immr"), "experiment", "rollback"]
            with subprocess.Popen(command, env={**os.environ, **settings.environment()}) as rollback:
                asking.wait_until_served_by("immr-1", times=1)
                switched_s = time.monotonic() - start
            took_s, meanwhile = time.monotonic() - start, len(asking.answers) - before
            assert rollback.returncode == 0
            asking.wait_until_served_by("immr-1", times=50)
        print(f"users were back after {switched_s:.1f} s, the command after {took_s:.1f} s")
        print(f"{meanwhile} searches meanwhile; troubles: {len(asking.trouble)}")
        assert asking.trouble == set()
        assert {by for _, by in asking.answers[-4:]} == {"immr-1"}
    [champion] = [each for each in registry.versions() if registry.role("champion") == each]
    assert champion.id == "immr-1"


def recorded(settings: Settings, clicked: bool = False) -> set[str]:
    """Ids of the searches in the log, or of those with a click."""
    log = connect(settings).events
    try:
        return {row["query_id"] for row in log.joined().to_pylist() if row["clicked"] or not clicked}
    finally:
        log.close()


def test_a_gateway_that_is_killed_loses_no_event_it_answered(
    home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """SIGKILL under load; the next gateway in this home brings what the dead one left to the log."""
    settings = Settings(home=tmp_path)
    token_key = {"IMMR_TOKEN_KEY_FILE": str(settings.token_key_file)}
    answered: list[str] = []
    clicked: list[str] = []
    with version_process(home / "immr-1", environment | token_key) as bento:
        save(changes.begin(("immr-1", bento), None, 0.0, datetime.now(UTC)), settings.experiment_file)
        port = free_port()
        command = [sys.executable, "-m", "serving.gateway", f"--port={port}"]

        def shopper() -> None:
            with suppress(httpx.HTTPError), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                while True:
                    answer = client.post("/v1/search", files={"image": RED}, timeout=60)
                    body = answer.json()
                    answered.append(body["query_id"])
                    event = click(body["hits"][0]["click_token"])
                    told = client.post("/v1/events", json={"events": [event]}, timeout=60).json()
                    clicked.extend([body["query_id"]] * told["accepted"])

        with subprocess.Popen(command, env={**os.environ, **settings.environment()}) as gateway:
            await_port(gateway, port)
            threads = [threading.Thread(target=shopper) for _ in range(4)]
            for thread in threads:
                thread.start()
            while len(answered) < 40:
                time.sleep(0.02)
            gateway.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join(timeout=30)
        with gateway_process(settings):
            deadline = time.monotonic() + 60
            while (lost := set(answered) - recorded(settings)) or (
                unclicked := set(clicked) - recorded(settings, clicked=True)
            ):
                assert time.monotonic() < deadline, f"lost: {len(lost)} searches, {len(unclicked)} clicks"
                time.sleep(0.1)
        assert len(clicked) >= 30
