"""Chaos: refreshes, deploys, tests, rollbacks and kills in random order, with searches going on.

    python -m benchmarks.experiment.chaos --minutes 5 --seed 1

Storms, in which anything may happen, alternate with calms, in which a test lasts until it has a verdict: in a calm
only decisions, kills and restarts happen.
Gateways, experiment verbs, queue, registry, event log and the loop of `immr serve` are the real ones. Versions are
stand-ins over HTTP, some failing, some with fewer clicks. Verbs are killed between two writes, challengers and one
of two gateways at any time. The champion is never killed, because nothing could replace it. Exit code 1 if a search
gets a 5xx, a user changes variant inside a test, a version of a running test is missing, or experiment, registry,
deployments and promotion log disagree at the end.
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import uvicorn

from benchmarks.experiment.crash_points import Killed, Mortal
from benchmarks.experiment.stand_ins import PHOTO, EveryCollection, StandIns, free_port
from immr.deploy.local import LocalDeployer
from immr.errors import ImmrError
from immr.experiment.assignment import group
from immr.experiment.definition import CHAMPION, ENDED, Experiment
from immr.experiment.file import load
from immr.experiment.history import read
from immr.loop.experiment import queue
from immr.loop.experiment.decide import decide
from immr.loop.experiment.ramp import ramp, stop
from immr.loop.experiment.rollback import roll_back, rollback_incomplete
from immr.loop.experiment.running_test import exclusive, running_test
from immr.loop.experiment.start import start
from immr.loop.serve import _Follower
from immr.packaging.bento import tag_of
from immr.settings import Settings
from immr.wiring import Parts
from serving.gateway.app import create_gateway_app
from serving.gateway.split import Gateway

log = logging.getLogger(__name__)

_CHANGES_OF_A_STORM = 15
_LONGEST_CALM_S = 120.0
_IN_A_CALM = ("decide", "kill a version", "restart a gateway")


class Chaos:
    """One home, two gateways, and the violations found."""

    def __init__(self, folder: Path, seed: int, users: int) -> None:
        self.users = users
        self.dice = random.Random(seed)
        settings = Settings(home=folder / "home", challengers=2, min_test_days=0)
        deployer = LocalDeployer(settings.home / "deployments", settings.bento_home, {})
        self.parts = Parts.of(settings, deployer=deployer, index=EveryCollection())
        self.stand_ins = StandIns(self.parts.token_keys[0], self.dice)
        deployer._supervisor = self.stand_ins  # type: ignore[assignment]
        self.follow = _Follower(self.parts, deployer)
        self.folder = folder / "trained"
        self.folder.mkdir()
        (self.folder / "card.json").write_text("{}")
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.ends = threading.Event()
        self.gateways: list[tuple[str, uvicorn.Server, threading.Thread]] = []
        self.seen: dict[tuple[str, str], str] = {}  # by test and user: the last group

    def refresh(self, parts: Parts) -> None:
        """A pipeline run has trained, packaged and indexed a new version, and deploys it."""
        number = len(parts.registry.versions()) + 1
        run = parts.registry.runs.start(f"key-{number}", {}, key=f"key-{number}")
        facts = {"dim": 8, "preprocessing_hash": "p", "manifest_hash": "m", "recipe": "concept"}
        version = parts.registry.register(self.folder, f"key-{number}", run, **facts)  # type: ignore[arg-type]
        parts.registry.runs.finish(run)
        bento = parts.settings.bento_home / "bentos" / tag_of(version.id).replace(":", "/")
        bento.mkdir(parents=True, exist_ok=True)
        (bento / "bento.yaml").touch()
        queue.deploy_or_wait(parts, version, share=self.dice.choice((0.3, 0.5)))
        queue.start_or_wait(parts, 0.5)

    def act(self, calm: bool = False) -> None:
        """One random change; one in four is killed half-way. In a calm none that keeps a test from its verdict."""
        actions: dict[str, tuple[float, Callable[[Parts], object]]] = {
            "refresh": (6, self.refresh),
            "decide": (8, lambda parts: decide(parts, apply=True)),
            "start": (2, lambda parts: start(parts, holdout=self.dice.choice((None, None, 0.1)))),
            "ramp": (1, lambda parts: ramp(parts, self.dice.choice((0.3, 0.4)))),
            "stop": (0.3, stop),
            "roll back": (2, roll_back),
            "resume": (1, queue.resume),
            "kill a version": (2, lambda parts: self.stand_ins.kill(self.champion)),
            "restart a gateway": (1, lambda parts: self.restart_gateway()),
        }
        if calm:
            actions = {name: actions[name] for name in _IN_A_CALM}
        name = self.dice.choices(list(actions), [weight for weight, _ in actions.values()])[0]
        parts = self.parts
        if self.dice.random() < 0.25:
            lives = iter(range(self.dice.randrange(4), -1_000_000, -1))
            mortal = {part: Mortal(getattr(parts, part), lives) for part in ("registry", "deployer")}
            parts = Parts.of(parts.settings, **mortal, index=parts.index, events=parts.events)
        try:
            actions[name][1](parts)
            self.done[name] += 1
        except Killed:
            self.done[f"{name}, killed"] += 1
        except ImmrError as error:
            self.done[f"{name}, refused"] += 1
            log.info("%s: %s", name, error)
        self.check_versions()

    @property
    def champion(self) -> str:
        """The version that answers most users."""
        return load(self.parts.settings.experiment_file).champion.model_version

    def storm(self, until: float) -> None:
        """Random changes, until this time at most."""
        for _ in range(_CHANGES_OF_A_STORM):
            if time.monotonic() < until:
                self.act()
                time.sleep(self.dice.uniform(0.05, 0.5))

    def calm(self, until: float) -> None:
        """Let the running test, if there is one, come to its verdict."""
        running = running_test(self.parts)
        ends = min(until, time.monotonic() + _LONGEST_CALM_S)
        while running and time.monotonic() < ends:
            self.act(calm=True)
            time.sleep(self.dice.uniform(0.5, 1.5))
            now = running_test(self.parts)
            running = now if now and now.name == running.name else None

    def check_versions(self) -> None:
        """No version of a running test is missing."""
        try:
            with exclusive(self.parts):
                running = running_test(self.parts)
                for side in (running.champion, *running.remaining) if running else ():
                    if not self.stand_ins.serves(side.model_version):
                        self.wrong.append(
                            f"{side.model_version} of {running.name if running else ''} is missing"
                        )
        except ImmrError as error:
            log.info("not checked: %s", error)

    def shop(self, number: int, users: int) -> None:
        """So many users search, click, and come back, until the end."""
        dice = random.Random(number)
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self.ends.wait(0.05):
                user = f"user-{number}-{dice.randrange(users)}"
                try:
                    before = load(self.parts.settings.experiment_file)
                    url = self.gateways[dice.randrange(2)][0]
                    answer = client.post(f"{url}/v1/search", files={"image": PHOTO}, data={"user_id": user})
                    after = load(self.parts.settings.experiment_file)
                except (httpx.TransportError, ImmrError):
                    self.done["search at a gateway that restarts"] += 1
                    continue
                self.done["search"] += 1
                if answer.status_code >= 500:
                    self.wrong.append(f"a search got {answer.status_code}: {answer.text[:200]}")
                elif answer.status_code == 200:
                    self.check_group(before, after, user, answer.json())
                    self.click(client, url, answer.json(), dice)

    def click(self, client: httpx.Client, url: str, body: dict[str, Any], dice: random.Random) -> None:
        """Click at the rate of the version that answered."""
        ctr = self.stand_ins.ctr.get(body["model_version"], 0.1)
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        tokens = [hit["click_token"] for hit in body["hits"] if dice.random() < ctr]
        events = [{"type": "click", "click_token": token, "ts": now} for token in tokens]
        if events:
            try:
                client.post(f"{url}/v1/events", json={"events": events})
            except httpx.TransportError:
                self.done["clicks at a gateway that restarts"] += 1

    def check_group(self, before: Experiment, after: Experiment, user: str, body: dict[str, Any]) -> None:
        """The user has the group of the experiment, and moves only as a ramp and the end of a challenger allow."""
        if (before.salt, before.state) != (after.salt, after.state) or before.state != "running":
            return
        got = body["variant"]
        if got not in (group(before, user), group(after, user)):
            self.wrong.append(f"{user} got {got} in {after.name} instead of {group(after, user)}")
        last = self.seen.setdefault((after.salt, user), got)
        joins, leaves = last == CHAMPION and got.startswith("challenger"), got == ENDED
        if got != last and not joins and not leaves:
            self.wrong.append(f"{user} went from {last} to {got} in {after.name}")
        self.seen[after.salt, user] = got

    def restart_gateway(self) -> None:
        """One of two gateways ends and another takes its place."""
        self.gateways.append(self._gateway())
        _, server, thread = self.gateways.pop(0)
        server.should_exit = True
        thread.join(20)

    def _gateway(self) -> tuple[str, uvicorn.Server, threading.Thread]:
        port = free_port()
        settings = self.parts.settings
        app = create_gateway_app(Gateway(Parts.of(settings, token_keys=self.parts.token_keys)))
        server = uvicorn.Server(
            uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=3)
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        return f"http://127.0.0.1:{port}", server, thread

    @contextmanager
    def running(self, shoppers: int) -> Iterator[None]:
        """Versions, gateways and shoppers for the duration of the block."""
        self.refresh(self.parts)
        self.follow()
        self.gateways = [self._gateway(), self._gateway()]
        with ThreadPoolExecutor(shoppers + 1) as pool:
            users = self.users // shoppers
            working = [pool.submit(self.shop, number, users) for number in range(shoppers)]
            working.append(pool.submit(self._keep_following))
            try:
                yield
            finally:
                self.ends.set()
            for each in working:
                each.result()
            for _, server, _ in self.gateways:
                server.should_exit = True
            for _, _, thread in self.gateways:
                thread.join(20)

    def _keep_following(self) -> None:
        while not self.ends.wait(0.3):
            self.follow()

    def settle(self) -> None:
        """Complete what was killed, then check that all records agree on the versions."""
        parts = self.parts
        if rollback_incomplete(parts, load(parts.settings.experiment_file)):
            roll_back(parts)
        decide(parts, apply=True)
        experiment = load(parts.settings.experiment_file)
        roles = {role: version.id for role, version in parts.registry.roles().items()}
        deployed = {each.role: each.version_id for each in parts.deployer.current()}
        if roles != deployed:
            self.wrong.append(f"the registry has {roles}, and deployed are {deployed}")
        if roles.get(CHAMPION) != experiment.champion.model_version:
            self.wrong.append(
                f"the champion is {roles.get(CHAMPION)}, and users get {experiment.champion.model_version}"
            )
        for past in read(parts.settings.history_file):
            self.done[f"test that was {past.outcome}"] += 1
            wanted = {"promoted": "promote", "kept": "keep", "rolled back": "roll back"}.get(past.outcome)
            logged = {
                each["action"] for each in parts.registry.decisions() if each["experiment"] == past.name
            }
            if wanted and wanted not in logged and "by hand" not in past.reason:
                self.wrong.append(
                    f"{past.name} was {past.outcome}, and the promotion log has {sorted(logged)}"
                )


def chaos(minutes: float, seed: int, users: int = 3000, shoppers: int = 2) -> tuple[list[str], Counter[str]]:
    """Run, settle, and return the violations and the number of events of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        world = Chaos(Path(folder), seed, users)
        with world.running(shoppers):
            deadline = time.monotonic() + 60 * minutes
            while time.monotonic() < deadline:
                world.storm(deadline)
                world.calm(deadline)
        world.settle()
        world.stand_ins.stop()
        world.parts.close()
        return world.wrong, world.done


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the order of events.")] = 0,
    users: Annotated[int, typer.Option(help="Who search; with more, tests come to a verdict.")] = 3000,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log refusals.")] = False,
) -> None:
    """Change everything at random while users search, and check that they do not notice."""
    logging.basicConfig(level=logging.CRITICAL, format="%(message)s")
    log.setLevel(logging.INFO if verbose else logging.CRITICAL)
    wrong, done = chaos(minutes, seed, users)
    for name, times in sorted(done.items()):
        typer.echo(f"{times:>7,} × {name}")
    for each, times in Counter(wrong).items():
        typer.echo(f"WRONG ({times} ×): {each}")
    typer.echo("nothing went wrong" if not wrong else f"{len(wrong)} things went wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    typer.run(main)
