"""Buttons run the commands that the page shows, and only for whoever has the key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from dashboards import actions
from dashboards.actions import possible_actions
from dashboards.live_experiment import LiveExperiment
from immr.cli.application import app
from immr.errors import ExperimentError, SettingsError
from immr.events.sqlite.log import SqliteEventLog
from immr.experiment import changes, history
from immr.experiment.definition import Experiment, Variant
from immr.experiment.file import load, save
from immr.experiment.revision import revision_of
from immr.readout.decision import Decision
from immr.settings import Settings
from tests.support.opened_page import opened, whole
from tests.support.page_home import STARTED, fill
from tests.support.upstream_process import free_port

KEY = "a key that is long enough"
STOP_COMMAND = "immr experiment stop"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    fill(tmp_path, [f"http://127.0.0.1:{free_port()}" for _ in range(2)], 50, STARTED)
    (tmp_path / "page.key").write_text(f"{KEY}\n")
    return tmp_path


@pytest.fixture
def page(home: Path) -> Iterator[TestClient]:
    with opened(home, page_key_file=home / "page.key") as client:
        yield client


def stop_of(home: Path) -> dict[str, str]:
    """What the button "Stop the test" sends, as the page shows it now."""
    revision = revision_of(load(home / "experiment" / "experiment.json"))
    return {"label": "Stop the test", "command": STOP_COMMAND, "revision": revision, "key": KEY}


def state(home: Path) -> str:
    return load(home / "experiment" / "experiment.json").state


def test_without_a_key_file_there_are_no_buttons(home: Path) -> None:
    with opened(home) as client:
        html = whole(client)
        assert "immr experiment stop" in html and "/actions" not in html
        refused = client.post("/actions", data=stop_of(home))
    assert refused.status_code == 403
    assert "set IMMR_PAGE_KEY_FILE" in refused.text
    assert state(home) == "running"


def test_a_button_runs_its_command(page: TestClient, home: Path) -> None:
    assert "/actions" in whole(page)
    stop = stop_of(home)
    done = page.post("/actions", data=stop, headers={"sec-fetch-site": "same-origin"})
    assert done.status_code == 200, done.text
    assert "`immr experiment stop` is done." in done.text
    assert state(home) == "stopped"
    assert history.read(home / "experiment" / "history.jsonl")[0].ended_by == "the page"
    again = page.post("/actions", data=stop)
    assert (again.status_code, "Nothing was done" in again.text) == (409, True)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"key": "another key of this length"}, 403),
        ({"key": ""}, 403),
        ({"key": "ключ"}, 403),
        ({"command": "immr experiment decide"}, 409),
        ({"command": "immr experiment report --out test.html"}, 409),
        ({"command": "immr experiment stop; id"}, 409),
        ({"label": "Promote immr-2"}, 409),
        ({"revision": "another"}, 409),
    ],
)
def test_only_the_shown_commands_run_and_only_with_the_key(
    page: TestClient, home: Path, changed: dict[str, str], status: int
) -> None:
    assert page.post("/actions", data=stop_of(home) | changed).status_code == status
    assert state(home) == "running"


def test_a_button_of_an_older_test_does_nothing(page: TestClient, home: Path) -> None:
    """Also if the new test is of the same versions, and its stop button looks the same."""
    file = home / "experiment" / "experiment.json"
    old = stop_of(home)
    for other in (
        replace(load(file), salt="another test"),
        changes.promote(load(file), STARTED),
        changes.ramp(replace(load(file), variants=shares(load(file), 0.9, 0.1)), 0.25, STARTED),
    ):
        save(other, file)
        refused = page.post("/actions", data=old)
        assert (refused.status_code, "Look at it again" in refused.text) == (409, True)
        assert load(file) == other
    assert 'hx-post="/actions"' in whole(page)


def test_a_button_promotes_only_what_it_names(page: TestClient, home: Path) -> None:
    """The readout of 50 users waits, so the page shows no button for a promotion."""
    shown = stop_of(home) | {"command": "immr experiment decide --apply", "label": "Promote immr-2"}
    assert page.post("/actions", data=shown).status_code == 409
    assert state(home) == "running"


def test_a_promotion_follows_from_the_log_and_not_from_what_the_page_shows(home: Path) -> None:
    """A large event log is read in the background, so the page may show what its last visitor saw."""
    log = SqliteEventLog(home / "events" / "events.db")
    live = LiveExperiment(Settings(home=home), log, list, dict, keep_s=3600)

    def shown() -> Decision:
        standing = live.standing()
        assert standing is not None
        return standing.decision

    assert shown().action == "wait"
    fill(home, [f"http://127.0.0.1:{free_port()}"] * 2, 600, STARTED)
    assert shown().winner is None
    decision = live.decision()
    assert decision is not None and decision.winner is not None
    assert shown() == decision, "else the visitor cannot see why the button was refused"
    log.close()


def test_a_test_that_changes_before_the_command_runs_is_left_alone(home: Path) -> None:
    """The command checks once more, under the lock of the experiment."""
    file = home / "experiment" / "experiment.json"
    revision = revision_of(load(file))
    save(replace(load(file), salt="another test"), file)
    refused = CliRunner().invoke(
        app, ["experiment", "stop", "--if-revision", revision], env={"IMMR_HOME": str(home)}
    )
    assert isinstance(refused.exception, ExperimentError)
    assert "nothing was done" in str(refused.exception)
    assert state(home) == "running"


def test_another_site_cannot_press_a_button(page: TestClient, home: Path) -> None:
    refused = page.post("/actions", data=stop_of(home), headers={"sec-fetch-site": "cross-site"})
    assert refused.status_code == 403
    assert state(home) == "running"
    assert "set-cookie" not in page.get("/").headers


def test_a_command_that_fails_shows_why(page: TestClient, home: Path) -> None:
    """No version is registered, so no test can start."""
    file = home / "experiment" / "experiment.json"
    save(replace(load(file), state="stopped"), file)
    (home / "page.key").write_text("a new key counts at once")
    start = {"label": "Start a test", "command": "immr experiment start", "key": "a new key counts at once"}
    failed = page.post("/actions", data=stop_of(home) | start)
    assert failed.status_code == 502
    assert "`immr experiment start` ended with 1." in failed.text
    assert "ExperimentError" in failed.text


def test_long_output_is_cut_between_lines() -> None:
    """It began within a border of a table."""
    lines = [f"line {number}" for number in range(1000)]
    shown = actions._end_of("\n".join(lines)).splitlines()
    assert 100 < len(shown) < 1000 and shown == lines[-len(shown) :]
    assert actions._end_of("short") == "short"


def test_a_weak_or_missing_key_is_refused_at_the_start(home: Path) -> None:
    (home / "page.key").write_text("short")
    with pytest.raises(SettingsError, match="fewer than 16"), opened(home, page_key_file=home / "page.key"):
        pass
    with pytest.raises(SettingsError, match="cannot be read"), opened(home, page_key_file=home / "none"):
        pass


def test_commands_fit_the_state_of_the_test(tmp_path: Path) -> None:
    fill(tmp_path, [f"http://127.0.0.1:{free_port()}" for _ in range(2)], 50, STARTED)
    file = tmp_path / "experiment" / "experiment.json"

    def shown(changed: Experiment) -> list[str]:
        return [action.command for action in possible_actions(changed)]

    running = load(file)
    low = replace(running, variants=shares(running, 0.9, 0.1))
    assert shown(low) == [
        "immr experiment decide --apply",
        "immr experiment ramp --share 25%",
        "immr experiment stop",
        "immr experiment report --out test.html",
    ]
    assert "immr experiment ramp --share 25%" not in shown(running)
    promoted = changes.promote(running, STARTED)
    assert shown(promoted) == ["immr experiment start", "immr experiment rollback"]


def shares(experiment: Experiment, *weights: float) -> tuple[Variant, ...]:
    return tuple(
        replace(side, weight=weight) for side, weight in zip(experiment.variants, weights, strict=True)
    )
