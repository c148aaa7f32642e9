"""What is wrong with pods, when it is worth a warning, and when it blocks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from immr.cluster import pod_problems
from immr.cluster.pod_problems import NOT_CREATED, PodProblem, ProblemWatch, problems, problems_in_events

VARIABLE = "IMMR_LAUNCH_URL"


def pod(container: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "status": {"containerStatuses": [container], **status}}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def test_a_container_that_ended_well_is_no_problem() -> None:
    assert problems([pod({"state": ended(0, "Completed")})], VARIABLE) == []


def test_an_evicted_pod_is_named() -> None:
    (found,) = problems([pod({}, phase="Failed", reason="Evicted", message="disk is full")], VARIABLE)
    assert (found.reason, found.message, found.blocks) == ("Evicted", "disk is full", False)


def test_a_restart_blocks_a_service_but_not_a_training() -> None:
    crashing = pod({"lastState": ended(137, "OOMKilled"), "restartCount": 2})
    (training,) = problems([crashing], VARIABLE)
    (service,) = problems([crashing], VARIABLE, crash_loop_blocks=True)
    assert (training.reason, training.blocks, service.blocks) == ("OOMKilled", False, True)


def test_the_first_crash_does_not_block() -> None:
    once = pod({"lastState": ended(1), "restartCount": 1})
    (found,) = problems([once], VARIABLE, crash_loop_blocks=True)
    assert not found.blocks


def test_old_restarts_of_a_container_that_is_ready_do_not_block() -> None:
    recovered = pod({"lastState": ended(137, "OOMKilled"), "restartCount": 2, "ready": True})
    (found,) = problems([recovered], VARIABLE, crash_loop_blocks=True)
    assert not found.blocks


def test_a_remedy_names_the_setting() -> None:
    (found,) = problems([pod({"state": ended(137, "OOMKilled")})], VARIABLE)
    assert str(found) == "pod a is OOMKilled: exit code 137; give it more memory (memory= in IMMR_LAUNCH_URL)"


def test_an_event_about_a_running_pod_is_old() -> None:
    event = {"reason": "FailedMount", "message": "no secret", "involvedObject": {"name": "a"}}
    assert problems_in_events([event], [pod({}, phase="Running")], "a", VARIABLE) == []
    (found,) = problems_in_events([event], [pod({}, phase="Pending")], "a", VARIABLE)
    assert found.blocks and found.message == "no secret"


@dataclass(frozen=True)
class Times:
    pending_grace_s: int = 45
    node_grace_s: int = 45


@pytest.mark.parametrize("reason", ["TrainJobResourcesCreationFailed", "JobCreationFailed"])
def test_a_trainjob_without_pods_is_explained_by_trainer_and_jobset(reason: str) -> None:
    event = {"reason": reason, "message": "no matches for kind JobSet", "involvedObject": {"name": "immr-a"}}
    (found,) = problems_in_events([event], [], "immr-a", VARIABLE)
    assert found.blocks and str(found).startswith(
        f"pod of immr-a is {reason}: no matches for kind JobSet; is JobSet"
    )
    assert problems_in_events([event], [pod({}, phase="Running")], "immr-a", VARIABLE) == []


def test_a_problem_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = ProblemWatch(Times(pending_grace_s=60))
    with caplog.at_level(logging.WARNING):
        for message in ("back-off 10s", "back-off 20s"):
            assert watch.update([PodProblem("a", "ImagePullBackOff", message, True)]) is None
    assert len(caplog.records) == 1


def test_a_problem_that_went_away_starts_its_grace_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pod_problems.time, "monotonic", lambda: now[0])
    problem, watch = PodProblem("a", "FailedMount", "", True), ProblemWatch(Times())
    for at, found, blocking in (
        (0.0, [problem], None),
        (40.0, [], None),
        (50.0, [problem], None),
        (94.0, [problem], None),
        (95.0, [problem], problem),
    ):
        now[0] = at
        assert watch.update(found) == blocking, at


def test_a_pod_may_wait_longer_for_a_node_than_for_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pod_problems.time, "monotonic", lambda: now[0])
    watch = ProblemWatch(Times(pending_grace_s=45, node_grace_s=300))
    no_node, no_image = (PodProblem("a", why, "", True, "X") for why in ("Unschedulable", "ErrImagePull"))
    assert watch.update([no_node]) is None
    now[0] = 299.0
    assert watch.update([no_node, no_image]) is None
    now[0] = 344.0
    assert watch.update([no_image]) == no_image
    assert watch.waited(no_image) == "waited 45 s, pending_grace_s in X"
    assert watch.waited(no_node) == "waited 300 s, node_grace_s in X"


def test_a_missing_pod_is_only_worth_a_warning_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(pod_problems.time, "monotonic", lambda: now[0])
    problem, watch = PodProblem("of job", NOT_CREATED, "0 of 2 pods exist", True), ProblemWatch(Times())
    for at, warnings in ((0.0, 0), (0.2, 0), (9.0, 0), (10.0, 1), (20.0, 1)):
        now[0] = at
        watch.update([problem])
        assert len(caplog.records) == warnings, at
