"""Start, ramp, stop, decide: on a real registry, deployer, event log and experiment file."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.deploy.local import LocalDeployer
from immr.errors import ExperimentError
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment, load, save
from immr.loop import experiment, watch
from immr.loop.deploy import deploy
from immr.registry.registry import Registry
from immr.settings import Settings
from immr.types import Click, Impression, ModelVersion, SearchRecord
from immr.wiring import connect
from tests.support.upstream_process import free_port


def version_of(registry: Registry, folder: Path, key: str) -> ModelVersion:
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text("{}")
    run_id = registry.runs.start(key, {}, key=key)
    version = registry.register(
        folder, key, run_id, dim=8, preprocessing_hash="p", manifest_hash="m", recipe="concept"
    )
    registry.runs.finish(run_id)
    return version


@pytest.fixture(scope="module")
def two_registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with immr-1 and immr-2, created once because its migrations take seconds."""
    home = tmp_path_factory.mktemp("registered")
    registry = connect(Settings(home=home)).registry
    for key in ("key-1", "key-2"):
        version_of(registry, home / "trained", key)
    return home / "mlflow" / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, two_registered: Path) -> Settings:
    (tmp_path / "mlflow").mkdir()
    shutil.copyfile(two_registered, tmp_path / "mlflow" / "mlflow.db")
    return Settings(home=tmp_path)


@pytest.fixture
def deployed(settings: Settings) -> Settings:
    """immr-1 serves as champion, immr-2 as challenger."""
    registry = connect(settings).registry
    for number in (1, 2):
        deploy(connect(settings), registry.get(f"immr-{number}"), f"immr-search:immr-{number}")
    move_to_unused_ports(settings)
    return settings


def move_to_unused_ports(settings: Settings) -> None:
    """The default ports may be in use by a test that runs beside this one."""
    [state] = (settings.home / "deployments").glob("*.json")
    rows = json.loads(state.read_text())
    state.write_text(json.dumps([row | {"url": f"http://127.0.0.1:{free_port()}"} for row in rows]))


def shop(
    settings: Settings, running: Experiment, rates: dict[str, int], users: int = 1500, fails: bool = False
) -> None:
    """One search of ten items per user; `rates` of 20 users click twice; with `fails` the challenger is down."""
    log = connect(settings).events
    assert running.started is not None
    for number in range(users):
        variant = assign(running, f"user-{number}")
        down = fails and variant.name == "challenger"
        version = running.champion.model_version if down else variant.model_version
        ts, query = running.started + timedelta(seconds=number), f"{running.salt}-{number}"
        search = SearchRecord(query, f"user-{number}", ts, variant.name, version, 20, 10, False, down)
        shown = [
            Impression(query, f"i{place}", place, f"user-{number}", variant.name, version, ts)
            for place in range(1, 11)
        ]
        log.record_search(search, shown)
        if number * 7 % 20 < rates[variant.name]:
            log.record_clicks([Click(f"{query}-{item}", "click", query, item, ts) for item in ("i1", "i3")])
    log.close()


def roles(settings: Settings) -> tuple[str | None, str | None]:
    registry = connect(settings).registry
    champion, challenger = registry.role("champion"), registry.role("challenger")
    return (champion.id if champion else None, challenger.id if challenger else None)


def deployments(settings: Settings) -> dict[str, str]:
    return {each.role: each.version_id for each in connect(settings).deployer.current()}


def test_start_reads_roles_from_the_registry_and_addresses_from_the_deployer(deployed: Settings) -> None:
    begun = experiment.start(connect(deployed), weight=0.2)
    assert load(deployed.experiment_file) == begun
    assert [(side.model_version, side.weight) for side in begun.variants] == [
        ("immr-1", 0.8),
        ("immr-2", 0.2),
    ]
    assert begun.challenger is not None
    assert begun.challenger.url == connect(deployed).deployer.current()[1].url


@contextmanager
def ready(version: str) -> Iterator[str]:
    """An address at which this version reports that it is ready."""

    class Fine(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"ready": True, "model_version": version}).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Fine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def promoted(settings: Settings, before: str) -> Experiment:
    """immr-2 is the champion; immr-1, its predecessor, is recorded at an address."""
    begun = experiment.start(connect(settings))
    champion = replace(begun.champion, url=before)
    running = replace(begun, variants=(champion, begun.variants[1]))
    save(running, settings.experiment_file)
    assert running.challenger is not None
    experiment._promote(connect(settings), running, running.challenger)
    assert (roles(settings), deployments(settings)) == (("immr-2", None), {"champion": "immr-2"})
    return load(settings.experiment_file)


def test_rollback_restores_the_previous_champion_everywhere(deployed: Settings) -> None:
    with ready("immr-1") as url:
        promoted(deployed, url)
        back = experiment.roll_back(connect(deployed))
    assert load(deployed.experiment_file) == back
    assert (back.champion.model_version, back.champion.url) == ("immr-1", url)
    assert roles(deployed) == ("immr-1", None)
    assert deployments(deployed) == {"champion": "immr-1"}
    assert "rolled back by hand" in connect(deployed).registry.decisions()[-1]["reason"]


def test_rollback_is_refused_if_another_version_serves_at_the_address(deployed: Settings) -> None:
    with ready("immr-2") as url:  # as after a restart, when the champion gets its port back
        before = promoted(deployed, url)
        with pytest.raises(
            ExperimentError, match=r"immr-2 serves there.*immr deploy --model immr-1.*immr serve"
        ):
            experiment.roll_back(connect(deployed))
    assert load(deployed.experiment_file) == before
    assert roles(deployed) == ("immr-2", None)


def test_an_interrupted_rollback_is_completed_and_not_undone(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = deployed.model_copy(update={"tracking_url": "http://127.0.0.1:9"})
    with ready("immr-1") as url:
        promoted(deployed, url)
        for _ in range(2):
            with pytest.raises(ExperimentError, match="all users get immr-1 again, but registry"):
                experiment.roll_back(connect(away))
            assert load(deployed.experiment_file).champion.model_version == "immr-1"
        assert roles(deployed) == ("immr-2", None)
        with pytest.raises(ExperimentError, match="run `immr experiment rollback` again"):
            experiment.start(connect(deployed))
        assert experiment.roll_back(connect(deployed)).champion.model_version == "immr-1"
        assert roles(deployed) == ("immr-1", None)
        assert deployments(deployed) == {"champion": "immr-1"}
    with ready("immr-2") as url:  # once complete, the next call is a new rollback
        back = load(deployed.experiment_file)
        assert back.previous is not None
        save(replace(back, previous=replace(back.previous, url=url)), deployed.experiment_file)
        assert experiment.roll_back(connect(deployed)).champion.model_version == "immr-2"


def test_start_is_refused_if_another_version_serves_at_the_address(deployed: Settings) -> None:
    with ready("immr-7") as url:
        deployer = connect(deployed).deployer
        assert isinstance(deployer, LocalDeployer)
        there = {each.role: each for each in deployer.current()}
        deployer._write({**there, "challenger": replace(there["challenger"], url=url)})
        with pytest.raises(ExperimentError, match=f"challenger is immr-2, but immr-7 serves at {url}"):
            experiment.start(connect(deployed))


def test_rollback_is_refused_if_the_previous_champion_does_not_answer(deployed: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening
        before = promoted(deployed, f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(ExperimentError, match=r"immr-1 at \S+ cannot serve"):
            experiment.roll_back(connect(deployed))
    assert load(deployed.experiment_file) == before


def test_shadow_mode_uses_the_deployed_challenger(deployed: Settings) -> None:
    shadowed = experiment.shadow(connect(deployed))
    assert (shadowed.state, shadowed.champion.model_version) == ("shadow", "immr-1")
    assert shadowed.challenger is not None and shadowed.challenger.model_version == "immr-2"
    assert experiment.start(connect(deployed)).state == "running"  # from shadow to a share of the users


def test_a_second_experiment_is_refused_while_the_first_runs(deployed: Settings) -> None:
    experiment.start(connect(deployed))
    with pytest.raises(ExperimentError, match="immr-2-against-immr-1 is already running"):
        experiment.start(connect(deployed))
    experiment.stop(connect(deployed))
    assert experiment.start(connect(deployed)).state == "running"


def test_start_names_what_is_missing(settings: Settings) -> None:
    with pytest.raises(ExperimentError, match="no champion to start with"):
        experiment.start(connect(settings))
    registry = connect(settings).registry
    deploy(connect(settings), registry.get("immr-1"), "immr-search:immr-1")
    assert experiment.start(connect(settings)).challenger is None
    registry.set_role("challenger", registry.get("immr-2"))
    with pytest.raises(ExperimentError, match="the challenger is immr-2, but nothing is deployed"):
        experiment.start(connect(settings))


def test_ramp_and_stop_change_the_file(deployed: Settings) -> None:
    begun = experiment.start(connect(deployed), weight=0.1)
    ramped = experiment.ramp(connect(deployed), 0.5)
    assert load(deployed.experiment_file) == ramped
    assert (ramped.salt, ramped.champion.weight) == (begun.salt, 0.5)
    experiment.stop(connect(deployed))
    assert load(deployed.experiment_file).state == "stopped"


def test_a_better_challenger_is_promoted_everywhere(deployed: Settings) -> None:
    running = experiment.start(connect(deployed))
    shop(deployed, running, {"champion": 4, "challenger": 12})
    assert experiment.decide(connect(deployed)).decision.action == "promote"
    assert roles(deployed) == ("immr-1", "immr-2")  # logged, not applied
    watched = experiment.decide(connect(deployed), apply=True)
    assert watched.decision.action == "promote"
    assert roles(deployed) == ("immr-2", None)
    assert deployments(deployed) == {"champion": "immr-2"}
    now = load(deployed.experiment_file)
    assert (now.champion.model_version, now.challenger) == ("immr-2", None)
    assert running.challenger is not None
    assert now.champion.url == running.challenger.url


@pytest.mark.parametrize(
    ("rates", "fails", "reason"),
    [
        ({"champion": 8, "challenger": 2}, False, "loses most of the clicks"),
        ({"champion": 8, "challenger": 8}, True, "fails"),
    ],
)
def test_a_bad_challenger_is_removed(
    deployed: Settings, rates: dict[str, int], fails: bool, reason: str
) -> None:
    shop(deployed, experiment.start(connect(deployed)), rates, users=400, fails=fails)
    decision = experiment.decide(connect(deployed), apply=True).decision
    assert (decision.action, reason in decision.reason) == ("roll back", True)
    now = load(deployed.experiment_file)
    assert {assign(now, f"user-{number}").model_version for number in range(200)} == {"immr-1"}
    assert roles(deployed) == ("immr-1", None)
    assert deployments(deployed) == {"champion": "immr-1"}
    [written] = connect(deployed).registry.decisions()
    assert (written["action"], written["challenger"]) == ("roll back", "immr-2")
    assert written["reason"] == decision.reason


def test_an_ended_experiment_gets_no_further_decision(deployed: Settings) -> None:
    shop(deployed, experiment.start(connect(deployed)), {"champion": 8, "challenger": 2}, users=400)
    experiment.decide(connect(deployed), apply=True)
    again = experiment.decide(connect(deployed), apply=True).decision
    assert (again.action, "nothing to decide" in again.reason) == ("wait", True)
    assert len(connect(deployed).registry.decisions()) == 1


def test_waiting_is_logged_only_on_request(deployed: Settings) -> None:
    experiment.start(connect(deployed))
    assert experiment.decide(connect(deployed), apply=True, record_wait=False).decision.action == "wait"
    assert connect(deployed).registry.decisions() == []
    experiment.decide(connect(deployed), apply=True)
    assert len(connect(deployed).registry.decisions()) == 1
    assert roles(deployed) == ("immr-1", "immr-2")


def test_one_process_at_a_time_changes_the_experiment(deployed: Settings) -> None:
    experiment.start(connect(deployed))
    verbs = (experiment.start, experiment.stop, experiment.decide)
    with (
        deployed.experiment_file.with_suffix(".lock").open("a") as other,
        ThreadPoolExecutor(len(verbs)) as pool,
    ):
        fcntl.flock(other, fcntl.LOCK_EX)
        for refused in [pool.submit(verb, connect(deployed)) for verb in verbs]:
            with pytest.raises(ExperimentError, match="another process is changing the experiment"):
                refused.result()
    assert experiment.stop(connect(deployed)).state == "stopped"


def test_the_watchdog_outlives_an_error(deployed: Settings) -> None:
    """`decide --every-s` once died at the first error, and then guarded nothing."""
    running = experiment.start(connect(deployed))
    shop(deployed, running, {"champion": 4, "challenger": 12})
    command = ["experiment", "decide", "--apply", "--every-s", "0.1", "--json"]
    with deployed.experiment_file.with_suffix(".lock").open("a") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        held = pool.submit(CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke, app, command)
        with pytest.raises(TimeoutError):
            held.result(timeout=experiment.LOCK_TIMEOUT_S + 0.5)  # by now the first attempt has failed
        fcntl.flock(other, fcntl.LOCK_UN)
        assert json.loads(held.result(timeout=60).stdout)["decision"]["action"] == "promote"
    assert roles(deployed) == ("immr-2", None)


def test_cuped_uses_what_users_did_before_the_test(deployed: Settings) -> None:
    alone = connect(deployed).registry
    alone.clear_role("challenger")
    before = experiment.start(connect(deployed))
    assert before.started is not None
    shop(deployed, before, {"champion": 8}, users=300)
    alone.set_role("challenger", alone.get("immr-2"))
    running = experiment.start(connect(deployed))
    later = replace(running, started=before.started + timedelta(hours=1))
    save(later, deployed.experiment_file)
    shop(deployed, later, {"champion": 9, "challenger": 9}, users=300)
    readout = watch.read_out(connect(deployed)).readout
    assert readout.ctr is not None
    assert readout.cuped is not None
    steady, plain = readout.cuped.interval, readout.ctr.interval
    assert steady.high - steady.low < 0.6 * (plain.high - plain.low)
    assert sum(side.queries for side in readout.variants) == 300


def test_on_the_command_line(deployed: Settings) -> None:
    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    assert "challenger immr-2 10%" in " ".join(
        run(app, ["experiment", "start", "--weight", "0.1"]).output.split()
    )
    assert run(app, ["experiment", "ramp", "--weight", "0.5"]).exit_code == 0
    shop(deployed, load(deployed.experiment_file), {"champion": 4, "challenger": 12})
    shown = run(app, ["experiment", "readout"]).output
    assert all(word in shown for word in ("A/B readout", "Other metrics", "CTR@1", "more days", "promote"))
    decided = json.loads(run(app, ["experiment", "decide", "--apply", "--json"]).output)
    assert decided["decision"]["action"] == "promote"
    assert decided["readout"]["by_rank"][0]["position"] == 1
    assert run(app, ["experiment", "stop"]).exit_code == 0
    assert roles(deployed) == ("immr-2", None)


def test_an_experiment_starts_now(deployed: Settings) -> None:
    started = experiment.start(connect(deployed)).started
    assert started is not None
    assert abs(started - datetime.now(UTC)) < timedelta(minutes=1)
