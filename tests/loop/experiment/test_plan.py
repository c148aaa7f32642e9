"""Plans from the champion's clicks of the last two weeks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ExperimentError
from immr.experiment import changes
from immr.experiment.file import save
from immr.loop.experiment.plan import plan, planned_users
from immr.settings import Settings
from immr.types import Click, Impression, ModelVersion, SearchRecord
from immr.wiring import Parts, connect

CHAMPION = ModelVersion("immr", 1, "key", "run", 4, "preprocessing", "manifest", "concept")
USERS, DAYS = 400, 4


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    found = connect(Settings(home=tmp_path / "home"))
    found.settings.home.mkdir(parents=True)
    return found


def deploy(parts: Parts) -> tuple[str, str]:
    """The champion's version and URL."""
    deployed = parts.deployer.apply(CHAMPION, "immr-search:immr-1", "champion")
    return deployed.version_id, deployed.url


def record(parts: Parts, since: datetime, days: float = DAYS) -> None:
    """400 users make one search each, spread over some days; every other one clicks on one of two items."""
    with parts.events.batch():  # one commit
        for number in range(USERS):
            user, query = f"user-{number}", f"q-{since:%d}-{number}"
            about = user, "champion", "immr-1", since + number * timedelta(days=days) / USERS
            shown = [Impression(query, f"i{place}", place, *about) for place in (1, 2)]
            variant, version, ts = about[1:]
            parts.events.record_search(SearchRecord(query, user, ts, variant, version, 20.0, 2), shown)
            if number % 2 == 0:
                parts.events.record_clicks([Click(f"{query}-1", "click", query, "i1", ts)])


def test_a_plan_says_how_many_users_and_days(parts: Parts) -> None:
    champion = deploy(parts)
    record(parts, datetime.now(UTC) - timedelta(days=DAYS))
    found = plan(parts, [0.05, 0.2])
    assert (found.champion, found.users, found.ctr) == ("immr-1", USERS, 0.25)
    assert found.users_per_day == pytest.approx(USERS / DAYS, rel=0.01)
    five, twenty = found.needed
    assert five.users == planned_users(parts, champion, 0.5)  # what `experiment start` stores
    # two means, with a variance per user of 1/16 at a CTR of 1/4
    assert twenty.users_one_look == pytest.approx((1.96 + 0.8416) ** 2 * (2 + 2 * 1.44) / 0.2**2, rel=0.01)
    assert five.users > five.users_one_look > twenty.users_one_look
    assert found.users_per_day and five.days == pytest.approx(five.users / found.users_per_day)


def test_a_smaller_share_or_more_challengers_need_more(parts: Parts) -> None:
    champion = deploy(parts)
    record(parts, datetime.now(UTC) - timedelta(days=DAYS))
    [even], [small], [several] = (
        plan(parts, [0.1], weight, challengers=number).needed
        for weight, number in ((0.5, 1), (0.1, 1), (0.25, 3))
    )
    assert small.users > even.users
    assert several.users > even.users and even.days and several.days
    pace = even.users / even.days  # half of the users are in a comparison with one of three challengers
    assert several.users / several.days == pytest.approx(pace / 2, rel=0.01)
    smaller = planned_users(parts, champion, 0.1)
    assert smaller is not None and smaller > (planned_users(parts, champion, 0.5) or 0)


def test_users_of_the_holdout_are_not_counted_on(parts: Parts) -> None:
    champion = deploy(parts)
    record(parts, datetime.now(UTC) - timedelta(days=DAYS))
    [everyone] = plan(parts, [0.1]).needed
    now = datetime.now(UTC)
    stopped = changes.stop(changes.begin(champion, {}, 0.0, now), now)
    save(changes.hold_out(stopped, 0.2, now), parts.settings.experiment_file)
    [others] = plan(parts, [0.1]).needed
    assert (others.users, others.users_one_look) == (everyone.users, everyone.users_one_look)
    assert everyone.days and others.days == pytest.approx(everyone.days / 0.8, rel=0.01)


def test_a_log_of_less_than_a_day_gives_users_but_no_days(parts: Parts) -> None:
    deploy(parts)
    record(parts, datetime.now(UTC) - timedelta(hours=23), days=0.9)
    found = plan(parts, [0.05])
    [needed] = found.needed
    assert needed.users > 0
    assert needed.days is needed.days_one_look is found.users_per_day is None
    run = CliRunner(env={"IMMR_HOME": str(parts.settings.home)}).invoke
    assert "too short to estimate days" in run(app, ["experiment", "plan"]).stdout.replace("\n", " ")


def test_too_few_clicks_and_no_deployment_are_said(parts: Parts) -> None:
    with pytest.raises(ExperimentError, match="nothing is deployed"):
        plan(parts, [0.05])
    champion = deploy(parts)
    record(parts, datetime.now(UTC) - timedelta(days=30))
    with pytest.raises(ExperimentError, match=r"too few clicks on immr-1 .*0 users searched.*wait for more"):
        plan(parts, [0.05])
    assert planned_users(parts, champion, 0.5) is None
    with pytest.raises(ExperimentError, match=r"share is 5e\+03%"):
        plan(parts, [0.05], share=50)


def test_the_command_prints_a_row_per_lift(parts: Parts) -> None:
    deploy(parts)
    record(parts, datetime.now(UTC) - timedelta(days=DAYS))
    run = CliRunner(env={"IMMR_HOME": str(parts.settings.home)}).invoke
    command = ["experiment", "plan", "--lift", "5%,20%"]
    printed = run(app, command).stdout
    assert "+5 %" in printed and "+20 %" in printed and "400 users searched" in printed
    assert [each["lift"] for each in json.loads(run(app, [*command, "--json"]).stdout)["needed"]] == [
        0.05,
        0.2,
    ]
    for wrong in ("five", "nan", "5%,inf", "1"):
        assert run(app, ["experiment", "plan", "--lift", wrong]).exit_code == 2
