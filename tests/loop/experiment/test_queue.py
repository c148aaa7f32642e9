"""The queue: a version that would disturb a test waits, and starts when the test has ended."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.cli.options import report_deployed
from immr.errors import DeployError, ExperimentError
from immr.experiment.file import load
from immr.experiment.queue import hold, load_queue, save_queue
from immr.loop.experiment import queue
from immr.loop.experiment.decide import decide
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.running_test import live_versions, running_test
from immr.loop.experiment.start import start
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts, connect
from tests.support.two_versions import deployments, move, packaged_parts, ready, roles, shop, version_of


@pytest.fixture(scope="module")
def two_deployed(two_deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same home with a third version, which is not deployed."""
    home = tmp_path_factory.mktemp("third") / "home"
    shutil.copytree(two_deployed, home)
    version_of(connect(Settings(home=home)).registry, home / "trained", "key-3")
    return home


@pytest.fixture
def third(deployed: Settings) -> ModelVersion:
    return connect(deployed).registry.get("immr-3")


@pytest.fixture
def parts(deployed: Settings, third: ModelVersion) -> Parts:
    return packaged_parts(deployed, "immr-1", "immr-2", "immr-3", "immr-4")


def deploy_third(parts: Parts, third: ModelVersion) -> queue.Waiting:
    waiting = queue.deploy_or_wait(parts, third, share=0.2)
    assert isinstance(waiting, queue.Waiting)
    return waiting


def test_a_version_waits_for_the_test_and_starts_when_it_has_ended(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    running = start(parts)
    assert f"test {running.name} is comparing immr-1 with immr-2" in deploy_third(parts, third).reason
    assert deployments(deployed) == {"champion": "immr-1", "challenger": "immr-2"}
    [waiting] = queue.waiting(parts)
    assert (waiting.version.share, waiting.reason) == (0.2, f"test {running.name} to end")
    assert "immr-3" in live_versions(parts)  # its collection is not garbage
    assert queue.advance(parts) is None

    shop(deployed, running, {"champion": 8, "challenger": 2}, users=400)
    assert decide(parts, apply=True).decision.action == "roll back"
    assert deployments(deployed) == {"champion": "immr-1", "challenger": "immr-3"}
    assert roles(deployed) == ("immr-1", "immr-3")
    assert running_test(parts) is None  # it does not answer yet
    assert queue.advance(parts) is None
    with ready("immr-3") as url:
        move(deployed, {"immr-3": url})
        begun = queue.advance(parts)
    assert begun is not None and begun.challenger is not None
    assert (begun.challenger.model_version, begun.challenger.weight) == ("immr-3", 0.2)
    assert load(deployed.experiment_file) == begun
    assert load_queue(deployed.queue_file).versions == ()


def test_stop_ends_a_test_too(deployed: Settings, parts: Parts, third: ModelVersion) -> None:
    start(parts)
    deploy_third(parts, third)
    stop(parts)
    assert deployments(deployed)["challenger"] == "immr-3"


def test_stop_says_what_is_tested_next(deployed: Settings, parts: Parts, third: ModelVersion) -> None:
    start(parts)
    deploy_third(parts, third)
    run = CliRunner(env=deployed.environment()).invoke
    assert "immr-3 is tested next. It waits for this: " in run(app, ["experiment", "stop"]).stderr
    assert "This test has been stopped" in run(app, ["experiment", "readout"]).stderr


def test_a_decision_does_not_advise_a_start_that_the_queue_makes(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    start(parts)
    queue.deploy_or_wait(parts, third, force=True)  # the command finds no collection
    stop(parts)
    run = CliRunner(env=deployed.environment() | {"IMMR_HOME": str(deployed.home)}).invoke
    waits = run(app, ["experiment", "decide", "--apply"])
    assert "immr-3 is tested next. It waits for this: its first answer" in waits.stderr
    assert "Start a test" not in waits.stdout
    with ready("immr-3") as url:
        move(deployed, {"immr-3": url})
        assert "immr-3-against-immr-1" in run(app, ["experiment", "decide", "--apply"]).stderr
        assert run(app, ["experiment", "decide", "--apply"]).stderr == ""


def test_the_version_that_was_deployed_last_starts_and_the_others_leave(
    deployed: Settings, parts: Parts, third: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    start(parts)
    fourth = version_of(parts.registry, deployed.home / "trained", "key-4")
    for version in (third, fourth, third, fourth):
        waiting = queue.deploy_or_wait(parts, version)
        assert isinstance(waiting, queue.Waiting)
    report_deployed(parts, waiting, as_json=False)
    assert "it starts in place of immr-3 (" in " ".join(capsys.readouterr().out.split())
    newest, older = queue.waiting(parts)
    assert (newest.version.model_version, older.version.model_version) == ("immr-4", "immr-3")
    assert older.reason == "immr-4 was deployed later and starts in its place"
    stop(parts)
    with ready("immr-4") as url:
        move(deployed, {"immr-4": url})
        assert queue.advance(parts) is not None
    assert queue.waiting(parts) == []


def test_nothing_starts_by_itself_after_a_rollback(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    start(parts)
    deploy_third(parts, third)
    hold(deployed.queue_file, "held since the rollback to immr-1")
    stop(parts)
    assert deployments(deployed)["challenger"] == "immr-2"
    assert queue.waiting(parts)[0].reason == "held since the rollback to immr-1"
    queue.resume(parts)
    queue.advance(parts)
    assert deployments(deployed)["challenger"] == "immr-3"


def test_a_version_that_cannot_start_stays_with_the_reason(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    start(parts)
    deploy_third(parts, third)
    parts.registry.tag(third, "gate.passed", "no")
    stop(parts)
    assert deployments(deployed)["challenger"] == "immr-2"
    assert "the gate stopped it" in queue.waiting(parts)[0].reason
    parts.registry.tag(third, "gate.passed", "yes")
    queue.advance(parts)
    assert deployments(deployed)["challenger"] == "immr-3"
    assert queue.waiting(parts)[0].reason == "its first answer at its address"  # the problem is over


def test_a_version_that_is_starting_costs_no_request_to_the_registry(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    """`immr serve` asks every two seconds."""
    start(parts)
    deploy_third(parts, third)
    stop(parts)
    assert queue.advance(Parts.of(deployed, registry=None)) is None
    assert queue.waiting(parts)[0].reason == "its first answer at its address"


def test_a_version_deployed_outside_a_test_replaces_those_that_wait(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    start(parts)
    deploy_third(parts, third)
    hold(deployed.queue_file, "held")
    stop(parts)
    fourth = version_of(parts.registry, deployed.home / "trained", "key-4")
    deployed_now = queue.deploy_or_wait(parts, fourth)
    assert isinstance(deployed_now, queue.Deployed)
    assert deployed_now.losses == ["it replaces immr-2", "immr-3 no longer waits in the queue"]
    assert queue.waiting(parts) == []
    forced = queue.deploy_or_wait(parts, parts.registry.get("immr-3"), "immr-search:other", force=True)
    assert isinstance(forced, queue.Deployed)
    assert forced.to_json()["replaced"] == "immr-4"
    assert "there is no Bento immr-search:other" in forced.passed_over[0]


def test_an_unfit_version_does_not_enter_the_queue(parts: Parts, third: ModelVersion) -> None:
    start(parts)
    with pytest.raises(DeployError, match="there is no Bento immr-search:other"):
        queue.deploy_or_wait(parts, third, "immr-search:other")
    assert queue.waiting(parts) == []


def test_a_deployed_challenger_starts_once_it_answers(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    queue.deploy_or_wait(parts, third)
    waiting = queue.start_or_wait(parts, 0.3)
    assert isinstance(waiting, queue.Waiting) and "immr-3 does not answer yet ([Errno" in waiting.reason
    with ready("immr-3") as url:
        move(deployed, {"immr-3": url})
        begun = queue.advance(parts)
    assert begun is not None and begun.challenger is not None and begun.challenger.weight == 0.3


def test_a_version_that_became_the_champion_or_is_tested_leaves_the_queue(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    running = start(parts)
    deploy_third(parts, third)
    queue.deploy_or_wait(parts, parts.registry.get("immr-2"))
    shop(deployed, running, {"champion": 4, "challenger": 12}, users=800)
    queue_of_tested = load_queue(deployed.queue_file)
    assert [each.model_version for each in queue_of_tested.versions] == ["immr-3"]
    save_queue(
        queue_of_tested.add(replace(queue_of_tested.versions[0], model_version="immr-2")), deployed.queue_file
    )
    assert decide(parts, apply=True).decision.action == "promote"
    assert [each.version.model_version for each in queue.waiting(parts)] == ["immr-3"]


def test_a_damaged_queue_is_named(deployed: Settings, parts: Parts) -> None:
    deployed.queue_file.parent.mkdir(parents=True, exist_ok=True)
    deployed.queue_file.write_text('{"versions": [{}]}')
    with pytest.raises(ExperimentError, match=r"queue\.json is damaged"):
        queue.waiting(parts)


def test_on_the_command_line(deployed: Settings, parts: Parts, third: ModelVersion) -> None:
    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    assert run(app, ["experiment", "queue"]).stdout == "no version waits\n"
    start(parts)
    deploy_third(parts, third)
    [row] = json.loads(run(app, ["experiment", "queue", "--json"]).stdout)
    assert (row["model_version"], row["share"]) == ("immr-3", 0.2)
    assert "immr-3" in run(app, ["experiment", "queue"]).stdout
    assert run(app, ["experiment", "queue", "--drop", "immr-3"]).exit_code == 0
    refused = run(app, ["experiment", "queue", "--drop", "immr-3"])
    assert isinstance(refused.exception, ExperimentError)
    assert str(refused.exception) == "immr-3 is not in the queue: nothing waits"


def test_several_versions_start_together_once_all_answer(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    """As many as IMMR_CHALLENGERS; the stopped test's challenger is removed, and older versions leave the queue."""
    several = packaged_parts(deployed.model_copy(update={"challengers": 2}), "immr-3", "immr-4", "immr-5")
    start(several)
    for version in (
        third,
        *(version_of(several.registry, deployed.home / "trained", f"key-{n}") for n in (4, 5)),
    ):
        waiting = queue.deploy_or_wait(several, version, share=0.4)
        assert isinstance(waiting, queue.Waiting)
    assert ["deployed later" in each.reason for each in queue.waiting(several)] == [False, False, True]
    stop(several)
    assert running_test(several) is None
    with ready("immr-4") as fourth, ready("immr-5") as fifth:
        move(deployed, {"immr-4": fourth})
        assert queue.advance(several) is None
        move(deployed, {"immr-5": fifth})
        begun = queue.advance(several)
    assert begun is not None
    assert {side.model_version: side.weight for side in begun.challengers} == {
        "immr-4": pytest.approx(1 / 3),
        "immr-5": pytest.approx(1 / 3),
    }
    assert sorted(deployments(deployed).values()) == ["immr-1", "immr-4", "immr-5"]
    assert queue.waiting(several) == []


def test_a_version_that_cannot_start_holds_up_no_other(
    deployed: Settings, parts: Parts, third: ModelVersion
) -> None:
    several = packaged_parts(deployed.model_copy(update={"challengers": 2}), "immr-3", "immr-4")
    start(several)
    for version in (third, version_of(several.registry, deployed.home / "trained", "key-4")):
        queue.deploy_or_wait(several, version, share=0.2)
    several.registry.tag(third, "gate.passed", "no")
    with ready("immr-4") as fourth:
        stop(several)
        move(deployed, {"immr-4": fourth})
        begun = queue.advance(several)
    assert begun is not None and [side.model_version for side in begun.challengers] == ["immr-4"]
    [waiting] = queue.waiting(several)
    assert waiting.version.model_version == "immr-3" and "the gate stopped it" in waiting.version.problem


def test_a_version_whose_killed_start_left_it_in_the_queue_is_not_tested_twice(parts: Parts) -> None:
    """It started once more after it had lost its test."""
    start(parts)
    entry = queue.WaitingVersion("immr-2", "immr-search:immr-2", 0.5, datetime.now(UTC))
    save_queue(load_queue(parts.settings.queue_file).add(entry), parts.settings.queue_file)
    assert queue.advance(parts) is None
    assert load_queue(parts.settings.queue_file).versions == ()
