"""Whatever change a command is killed before: the same command, run again, makes everything agree.

Every change on disk that a command makes is found by running it, see `kill_points`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from immr.errors import ExperimentError, ExperimentRunningError
from immr.experiment import history
from immr.experiment.file import load
from immr.experiment.queue import load_queue
from immr.loop.experiment import queue, ramp
from immr.loop.experiment.decide import decide
from immr.loop.experiment.rollback import roll_back
from immr.loop.experiment.running_test import running_test
from immr.loop.experiment.start import start
from immr.loop.status import status
from immr.settings import Settings
from immr.wiring import connect
from tests.support.kill_points import killed_at
from tests.support.two_versions import (
    champion_and_challenger,
    deployments,
    give_roles,
    move,
    packaged_parts,
    ready,
    roles,
    shop,
    version_of,
)

VERSIONS = ("immr-1", "immr-2", "immr-3")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """immr-1 is champion and immr-2 challenger; immr-3 is not deployed. All answer."""
    folder = tmp_path_factory.mktemp("kill-points")
    settings = at(champion_and_challenger(folder).home)
    version_of(connect(settings).registry, folder / "trained", "key-3")
    packaged_parts(settings, *VERSIONS)
    with ExitStack() as serving:
        addresses = {each: serving.enter_context(ready(each)) for each in VERSIONS}
        move(settings, addresses)
        give_addresses(settings, addresses)
        yield settings


def at(home: Path) -> Settings:
    return Settings(home=home, challengers=1, min_test_days=0)


def give_addresses(settings: Settings, addresses: Mapping[str, str]) -> None:
    """Where each version answers once it is deployed."""
    (settings.home / "addresses").write_text("\n".join(" ".join(each) for each in addresses.items()))


def answering(settings: Settings) -> Settings:
    """The same home, in which what is deployed answers."""
    lines = (settings.home / "addresses").read_text().splitlines()
    move(settings, dict(line.split(" ") for line in lines))
    return settings


@dataclass(frozen=True)
class Case:
    """What happens before the command is killed, the command, and the champion and challenger that it leaves."""

    before: Callable[[Settings], object]
    command: Callable[[Settings], object]
    leaves: tuple[str | None, str | None]


def begin(settings: Settings) -> None:
    start(connect(settings))


def nothing(settings: Settings) -> None:
    pass


def shopped(rates: Mapping[str, int]) -> Callable[[Settings], None]:
    def shopping(settings: Settings) -> None:
        shop(settings, start(connect(settings)), rates, users=800)

    return shopping


def promoted(settings: Settings) -> None:
    shopped(BETTER)(settings)
    apply(settings)
    assert deployments(settings) == {"champion": "immr-2"}


def promoted_then_tested(settings: Settings) -> None:
    promoted(settings)
    give_roles(settings, {"challenger": "immr-3"})
    begin(answering(settings))


def waiting_during_a_test(settings: Settings) -> None:
    shopped(WORSE)(settings)
    deploy_third(settings)


def apply(settings: Settings) -> None:
    decide(connect(settings), apply=True)


def apply_until_started(settings: Settings) -> None:
    """The version that waits is deployed first, and its test starts once it answers."""
    parts = packaged_parts(settings)
    decide(parts, apply=True, record_wait=False)
    answering(settings)
    decide(parts, apply=True, record_wait=False)


def deploy_third(settings: Settings) -> None:
    parts = packaged_parts(settings)
    queue.deploy_or_wait(parts, parts.registry.get("immr-3"))


def start_unless_running(settings: Settings) -> None:
    """The command ends with this error if the killed one had started the test."""
    with suppress(ExperimentRunningError):
        begin(settings)


def ramp_unless_done(settings: Settings) -> None:
    """The command ends with this error if the killed one had changed the share."""
    with suppress(ExperimentError):
        ramp.ramp(connect(settings), 0.5)


BETTER, WORSE = {"champion": 4, "challenger": 12}, {"champion": 8, "challenger": 2}
CASES = {
    "start": Case(nothing, start_unless_running, ("immr-1", "immr-2")),
    "deploy": Case(nothing, deploy_third, ("immr-1", "immr-3")),
    "roll back": Case(promoted, lambda settings: roll_back(connect(settings)), ("immr-1", None)),
    "deploy during a test": Case(begin, deploy_third, ("immr-1", "immr-2")),
    "promote": Case(shopped(BETTER), apply, ("immr-2", None)),
    "end a bad challenger": Case(shopped(WORSE), apply, ("immr-1", None)),
    "end a test, and start the next": Case(waiting_during_a_test, apply_until_started, ("immr-1", "immr-3")),
    "roll back during a test": Case(
        promoted_then_tested, lambda settings: roll_back(connect(settings)), ("immr-1", None)
    ),
    "stop": Case(begin, lambda settings: ramp.stop(connect(settings)), ("immr-1", "immr-2")),
    "ramp": Case(lambda settings: start(connect(settings), 0.1), ramp_unless_done, ("immr-1", "immr-2")),
}
QUICK = ("start", "deploy", "deploy during a test")


def run_case(name_and_settings: tuple[str, Settings]) -> None:
    """In a process that is killed."""
    name, settings = name_and_settings
    CASES[name].command(settings)


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in QUICK else pytest.mark.slow) for each in CASES]
)
@pytest.mark.timeout(1800)
def test_a_killed_command_run_again_leaves_everything_as_one_that_was_not_killed(
    home: Settings, tmp_path: Path, name: str
) -> None:
    case = CASES[name]

    def copy_of(before: Settings, folder: str) -> Settings:
        shutil.copytree(before.home, tmp_path / folder)
        return at(tmp_path / folder)

    prepared = copy_of(home, "prepared")
    case.before(prepared)
    whole = copy_of(prepared, "whole")
    case.command(whole)
    expected = agreement(whole)
    assert roles(whole) == case.leaves
    killed = 0
    while True:
        settings = copy_of(prepared, f"killed-{killed + 1}")
        before = killed_at(killed + 1, settings.home, run_case, (name, settings))
        if not before:
            break
        killed += 1
        where = f"killed before change {killed}: {before}"
        check_what_is_read(settings, where)
        case.command(settings)
        assert agreement(settings) == expected, where
        shutil.rmtree(settings.home)
    print(f"{name}: killed {killed} times")
    assert killed


def check_what_is_read(settings: Settings, where: str) -> None:
    """Every file can be read, and what gets users is deployed."""
    parts = connect(settings)
    assert not status(parts).problems, where
    deployed = {each.version_id for each in parts.deployer._wanted().values()}  # type: ignore[attr-defined]
    if settings.experiment_file.is_file():
        experiment = load(settings.experiment_file)
        assert {experiment.champion.model_version} <= deployed, where
    if running := running_test(parts):
        assert {each.model_version for each in running.remaining} <= deployed, where


def agreement(settings: Settings) -> dict[str, Any]:
    """What registry, deployments, test, history, promotion log and queue contain, without times and names."""
    parts = connect(settings)
    experiment = load(settings.experiment_file) if settings.experiment_file.is_file() else None
    tests = history.read(settings.history_file)
    places = {each.name: place for place, each in enumerate(tests)}
    running = running_test(parts)
    if running:
        assert running.name == tests[0].name and tests[0].outcome == "running"
        assert deployments(settings)[running.champion.name] == running.champion.model_version
        for each in running.remaining:
            assert deployments(settings)[each.name] == each.model_version
    left = sorted(file.name for file in settings.experiment_file.parent.glob("[!.]*") if file.is_file())
    return {
        "roles": {role: version.id for role, version in parts.registry.roles().items()},
        "deployments": {
            place: each.version_id
            for place, each in parts.deployer._wanted().items()  # type: ignore[attr-defined]
        },
        "experiment": experiment
        and (
            experiment.state,
            [(each.name, each.model_version, each.weight, each.ended) for each in experiment.variants],
            experiment.previous and experiment.previous.model_version,
        ),
        "history": [[(event.what, event.challenger) for event in test.events] for test in tests],
        "reports": sorted(places[file.stem] for file in settings.test_reports.glob("[!.]*.html")),
        "log": [
            (
                places.get(each["experiment"]),
                each["action"],
                each["champion"],
                each["challenger"],
                each["applied"],
            )
            for each in parts.registry.decisions()
        ],
        "queue": [replace(each, since=None) for each in load_queue(settings.queue_file).versions],  # type: ignore[arg-type]
        "files": left,
    }
