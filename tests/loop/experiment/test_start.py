"""Start: on a real registry, deployer and experiment file; stand-ins answer for the versions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import Result
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ExperimentError
from immr.experiment.assignment import assign
from immr.experiment.file import load, save
from immr.loop import watch
from immr.loop.experiment.ramp import stop
from immr.loop.experiment.start import shadow, start
from immr.settings import Settings
from immr.types import SearchRecord
from immr.wiring import connect
from tests.support.two_versions import give_roles, move, ready, shop
from tests.support.upstream_process import free_port


def test_start_reads_roles_from_the_registry_and_addresses_from_the_deployer(deployed: Settings) -> None:
    begun = start(connect(deployed), share=0.2)
    assert load(deployed.experiment_file) == begun
    assert [(side.model_version, side.weight) for side in begun.variants] == [
        ("immr-1", 0.8),
        ("immr-2", 0.2),
    ]
    assert begun.challenger is not None
    assert begun.challenger.url == connect(deployed).deployer.current()[1].url


def test_shadow_mode_uses_the_deployed_challenger(deployed: Settings) -> None:
    shadowed = shadow(connect(deployed))
    assert (shadowed.state, shadowed.champion.model_version) == ("shadow", "immr-1")
    assert shadowed.challenger is not None and shadowed.challenger.model_version == "immr-2"
    assert start(connect(deployed)).state == "running"  # from shadow to a share of the users


def test_a_second_experiment_is_refused_while_the_first_runs(deployed: Settings) -> None:
    start(connect(deployed))
    with pytest.raises(ExperimentError, match=r"immr-2-against-immr-1-\d{8}T\d{9} is already running"):
        start(connect(deployed))
    stop(connect(deployed))
    assert start(connect(deployed)).state == "running"


def test_start_names_what_is_missing(settings: Settings) -> None:
    with pytest.raises(ExperimentError, match="no champion to start with"):
        start(connect(settings))
    registry = connect(settings).registry
    give_roles(settings, {"champion": "immr-1"})
    assert start(connect(settings)).challenger is None
    registry.set_role("challenger", registry.get("immr-2"))
    with pytest.raises(ExperimentError, match="the challenger is immr-2, but nothing is deployed"):
        start(connect(settings))


def test_without_a_challenger_no_test_is_announced(settings: Settings) -> None:
    """`immr experiment start` once printed `immr-1-alone (running)`, as if a test had begun."""
    give_roles(settings, {"champion": "immr-1"})
    home = {"IMMR_HOME": str(settings.home)}

    def immr(*words: str) -> Result:
        return CliRunner().invoke(app, ["experiment", *words], env=home)

    for words in (["--share", "0.1"], ["--ramp", "1%,5%"], ["--interleave"]):
        refused = immr("start", *words)
        assert "nothing to compare immr-1 with: deploy another version" in str(refused.exception)
    assert not settings.experiment_file.exists()
    alone = immr("start", "--holdout", "5%")
    assert alone.stdout.startswith("no test: the champion immr-1 serves all users")
    assert "holdout 5%" in alone.stdout and "running" not in alone.stdout
    assert "immr deploy --model" in alone.stderr


def test_an_experiment_starts_now(deployed: Settings) -> None:
    started = start(connect(deployed)).started
    assert started is not None
    assert abs(started - datetime.now(UTC)) < timedelta(minutes=1)


def test_start_is_refused_if_another_version_serves_at_the_address(deployed: Settings) -> None:
    with ready("immr-7") as url:
        move(deployed, {"immr-2": url})
        with pytest.raises(ExperimentError, match=rf"challenger immr-2 .* at {url} \(immr-7 serves there\)"):
            start(connect(deployed))
    assert not deployed.experiment_file.exists()


@pytest.mark.parametrize("silent", ["immr-1", "immr-2"])
def test_start_is_refused_while_a_version_does_not_answer(deployed: Settings, silent: str) -> None:
    """Every search of a silent challenger once fell back, and the test ended with "roll back … 100.0 %"."""
    url = f"http://127.0.0.1:{free_port()}"
    move(deployed, {silent: url})
    with pytest.raises(ExperimentError, match=rf"{silent} does not answer at {url} .*`immr serve`"):
        start(connect(deployed))
    assert not deployed.experiment_file.exists()


def test_another_homes_version_is_not_taken_for_ours(deployed: Settings) -> None:
    with ready("immr-2", home="a-copy") as url:
        move(deployed, {"immr-2": url})
        with pytest.raises(ExperimentError, match="immr-2 of another IMMR_HOME serves there"):
            start(connect(deployed))
    with ready("immr-2", home=deployed.home_id) as url:
        move(deployed, {"immr-2": url})
        assert start(connect(deployed)).state == "running"


def test_fallbacks_from_before_the_challenger_answered_do_not_count(deployed: Settings) -> None:
    log = connect(deployed).events
    early = datetime.now(UTC) - timedelta(hours=1)
    for number in range(100):
        log.record_search(
            SearchRecord(f"q{number}", f"u{number}", early, "challenger", "immr-1", 20, 10, fallback=True), []
        )
    log.close()
    running = start(connect(deployed))
    shop(deployed, running, {"champion": 8, "challenger": 8}, users=400)
    health = {each.variant: each for each in watch.read_out(connect(deployed)).readout.health}
    assert health["challenger"].fallback_rate == 0


def test_each_test_has_its_own_name_and_users(deployed: Settings) -> None:
    first = start(connect(deployed))
    stop(connect(deployed))
    second = start(connect(deployed))
    assert first.name != second.name
    users = [f"user-{number}" for number in range(200)]
    assert [assign(first, user).name for user in users] != [assign(second, user).name for user in users]


def test_the_plan_is_stored_with_the_test(deployed: Settings) -> None:
    """A plan from the champion's last clicks; a share that is not even needs more users."""
    parts = connect(deployed)
    parts.registry.clear_role("challenger")
    before = start(parts)
    save(before, deployed.experiment_file)
    shop(deployed, before, {"champion": 8}, users=600)
    parts.registry.set_role("challenger", parts.registry.get("immr-2"))
    assert start(connect(deployed), kind="interleave").planned_users is None
    stop(connect(deployed))
    even = start(connect(deployed)).planned_users
    stop(connect(deployed))
    uneven = start(connect(deployed), share=0.1).planned_users
    assert even is not None and uneven is not None
    assert load(deployed.experiment_file).planned_users == uneven
    # the variance of the difference, with clicks 5 % up in the challenger
    assert uneven / even == pytest.approx((1 / 0.9 + 1.05**2 / 0.1) / (2 + 2 * 1.05**2), rel=1e-3)


def test_without_clicks_there_is_no_plan(deployed: Settings) -> None:
    assert start(connect(deployed)).planned_users is None


def test_three_challengers_start_with_equal_shares_and_one_silent_one_stops_all(
    three_challengers: Settings,
) -> None:
    running = start(connect(three_challengers))
    assert [side.model_version for side in running.variants] == ["immr-1", "immr-2", "immr-3", "immr-4"]
    assert [side.weight for side in running.variants] == [pytest.approx(0.25)] * 4
    stop(connect(three_challengers))
    with pytest.raises(ExperimentError, match=r"3 challengers with 50% each"):
        start(connect(three_challengers), 0.5)
    with pytest.raises(ExperimentError, match="interleave one"):
        start(connect(three_challengers), 0.2, "interleave")
    with pytest.raises(ExperimentError, match="3 challengers are deployed, and a shadow needs one"):
        shadow(connect(three_challengers))
    move(three_challengers, {"immr-3": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(ExperimentError, match="challenger-2 immr-3 does not answer"):
        start(connect(three_challengers))


def test_a_holdout_is_kept_across_tests(deployed: Settings) -> None:
    run = CliRunner(env={"IMMR_HOME": str(deployed.home)}).invoke
    begun = json.loads(run(app, ["experiment", "start", "--holdout", "5%", "--json"]).stdout)
    assert begun["holdout"]["share"] == 0.05
    first = load(deployed.experiment_file)
    stop(connect(deployed))
    second = start(connect(deployed), 0.3)
    assert second.salt != first.salt and second.holdout == first.holdout
    assert "holdout 5% of all users" in run(app, ["status"]).stdout
    stop(connect(deployed))
    assert start(connect(deployed), holdout=0.0).holdout is None
