"""Versions are replaced under load, and no shopper notices."""

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
import pytest

from immr.experiment import changes
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from tests.support.in_process import in_threads, ready_version, served_gateway
from tests.support.patience import until
from tests.support.shopper import RED, click
from tests.support.two_versions import version_of
from tests.support.upstream_process import await_port, free_port, process_on
from tests.support.version_process import version_process


@dataclass
class Shoppers:
    """The status or error of each answer, and which version gave it."""

    answers: list[tuple[str, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def trouble(self) -> set[str]:
        return {status for status, _ in self.answers if status != "200"}

    def wait_until_served_by(self, version: str, times: int = 20) -> None:
        start = len(self.answers)
        until(
            lambda: sum(by == version for _, by in self.answers[start:]) >= times,
            context=lambda: self.answers[-5:],
        )

    def ask(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
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


@contextmanager
def gateway_process(settings: Settings, *flags: str) -> Iterator[str]:
    command = [sys.executable, "-m", "serving.gateway", f"--port={(port := free_port())}", *flags]
    with process_on(port, *command, env={**os.environ, **settings.environment()}) as url:
        yield url


def test_no_request_fails_while_a_champion_is_replaced_and_stopped(free_home: Path, tmp_path: Path) -> None:
    """A rolling restart: the next version starts, the file names it, the previous one stops."""
    settings, of_versions = Settings(home=tmp_path), Settings(home=free_home)
    now = datetime.now(UTC)
    with ExitStack() as running:
        old = ExitStack()
        old_url = old.enter_context(ready_version(of_versions, free_home / "immr-1"))
        save(changes.begin(("immr-1", old_url), {}, 0.0, now), settings.experiment_file)
        client = running.enter_context(served_gateway(settings))
        with shoppers(str(client.base_url)) as asking:
            asking.wait_until_served_by("immr-1")
            new_url = running.enter_context(ready_version(of_versions, free_home / "immr-2"))
            save(changes.begin(("immr-2", new_url), {}, 0.0, now), settings.experiment_file)
            old.close()  # at once, while requests are in progress there
            asking.wait_until_served_by("immr-2", times=50)
        assert asking.trouble == set()


@pytest.mark.slow
def test_no_request_fails_while_a_version_is_rolled_back(
    free_home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """By the command, on real processes. `pytest -s -k rolled_back` prints how long it took."""
    settings = Settings(home=tmp_path)
    registry = connect(settings).registry
    for key in ("key-1", "key-2"):
        version_of(registry, tmp_path / "trained", key)
    now = datetime.now(UTC)
    here = environment | {"IMMR_HOME": str(tmp_path)}  # a rollback refuses versions of another home
    with ExitStack() as running:
        urls = [
            running.enter_context(version_process(free_home / f"immr-{number}", here)) for number in (1, 2)
        ]
        promoted = changes.promote(
            changes.begin(("immr-1", urls[0]), {"challenger": ("immr-2", urls[1])}, 0.5, now), now
        )
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
        print(f"users were back after {switched_s:.1f} s, the command took {took_s:.1f} s")
        print(f"{meanwhile} searches meanwhile, {len(asking.trouble)} kinds of errors")
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


def test_a_gateway_that_is_killed_loses_no_recorded_event(bento_url: str, own_settings: Settings) -> None:
    """SIGKILL under load; the next gateway in this home delivers what the killed one left behind."""
    settings = own_settings
    answered: list[str] = []
    clicked: list[str] = []
    save(changes.begin(("immr-1", bento_url), {}, 0.0, datetime.now(UTC)), settings.experiment_file)
    command = [sys.executable, "-m", "serving.gateway", f"--port={(port := free_port())}"]

    def shopper() -> None:
        url = f"http://127.0.0.1:{port}"
        with suppress(httpx.HTTPError), httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            while True:
                answer = client.post("/v1/search", files={"image": RED})
                if answer.status_code != 200:  # on a busy machine a variant may take too long
                    continue
                body = answer.json()
                answered.append(body["query_id"])
                event = click(body["hits"][0]["click_token"])
                counts = client.post("/v1/events", json={"events": [event]}).json()
                clicked.extend([body["query_id"]] * counts.get("accepted", 0))

    with subprocess.Popen(command, env={**os.environ, **settings.environment()}) as gateway:
        threads = [threading.Thread(target=shopper) for _ in range(4)]
        try:
            await_port(gateway, port)
            for thread in threads:
                thread.start()
            until(lambda: len(clicked) >= 30, pause_s=0.02)
        finally:
            gateway.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(timeout=30)
    with served_gateway(settings):
        until(lambda: set(answered) <= recorded(settings))
        until(lambda: set(clicked) <= recorded(settings, clicked=True))
    assert len(clicked) >= 30
