"""An A/A test as an analyst runs it: equal versions behind the real gateway, and one set of numbers everywhere."""

from __future__ import annotations

import csv
import io
import json
import random
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from dashboards.lineage import Lineage
from dashboards.live_experiment import LiveExperiment
from dashboards.page import create_page
from immr.cli import app
from immr.experiment.definition import Experiment
from immr.experiment.file import load
from immr.settings import Settings
from immr.wiring import connect
from tests.support import tiny_version
from tests.support.in_process import served_gateway, served_version, wait_ready
from tests.support.opened_page import text, whole
from tests.support.shopper import wait_until_recorded
from tests.support.two_versions import champion_and_challenger, move

pytestmark = pytest.mark.slow

USERS, HITS = 60, 3
PHOTOS = {colour: tiny_version.photo(colour) for colour in ("red", "green", "blue")}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The champion immr-1 and its equal immr-2 are deployed and serve; the analyst works in an empty folder."""
    settings = champion_and_challenger(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    items = tiny_version.items(tmp_path / "pictures")
    with ExitStack() as serving:
        for number in (1, 2):
            folder = tiny_version.write_packaged(tmp_path / f"immr-{number}", number)
            tiny_version.build_index(settings, folder, items, number)
            url = serving.enter_context(served_version(settings, folder))
            wait_ready(url)
            move(settings, {f"immr-{number}": url})
        yield settings


def immr(home: Settings, command: str) -> str:
    done = CliRunner(env={"IMMR_HOME": str(home.home)}).invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, f"{command}: {done.output} {done.exception!r}"
    return done.stdout


def visit(client: httpx.Client, seed: int) -> None:
    """Each user searches once, clicks by a taste of their own, and orders some of what they clicked."""
    dice = random.Random(seed)
    for number in range(USERS):
        context = {"country": ("SE", "DE")[number % 2]}
        fields = {"user_id": f"user-{number}", "k": str(HITS), "context": json.dumps(context)}
        photo = list(PHOTOS.values())[number % len(PHOTOS)]
        answer = client.post("/v1/search", files={"image": ("a.jpg", photo)}, data=fields)
        assert answer.status_code == 200, answer.text
        taste, events = 0.1 + 0.6 * random.Random(number).random(), []
        for hit in answer.json()["hits"]:
            event = {"click_token": hit["click_token"], "ts": datetime.now(UTC).isoformat()}
            if dice.random() < taste:
                events.append(event | {"type": "click"})
            if dice.random() < taste / 3:
                events.append(event | {"type": "order", "amount": round(dice.lognormvariate(3, 1), 2)})
        if events:
            assert client.post("/v1/events", json={"events": events}).is_success


def same(one: Any, other: Any) -> bool:
    """Equal; floats up to the order of their sums."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == pytest.approx(other) if isinstance(one, float) else one == other)


@pytest.fixture
def tested(home: Settings) -> Experiment:
    """The A/A test, after all users searched once with the champion alone and twice in the test."""
    registry = connect(home).registry
    registry.clear_role("challenger")
    assert immr(home, "immr experiment start").startswith("no test: the champion immr-1")
    with served_gateway(home) as client:
        visit(client, 1)  # what CUPED adjusts by
        wait_until_recorded(home, USERS)
    registry.set_role("challenger", registry.get("immr-2"))
    immr(home, "immr experiment start")
    with served_gateway(home) as client:
        for seed in (2, 3):
            visit(client, seed)
            wait_until_recorded(home, seed * USERS)
    return load(home.experiment_file)


def test_files_and_tables_have_the_numbers_of_the_log(home: Settings, tested: Experiment) -> None:
    of_log = json.loads(immr(home, "immr experiment readout --by country --json"))
    immr(home, "immr events sink --out events")
    of_files = json.loads(immr(home, "immr experiment readout --by country --from events --json"))
    assert same(of_log, of_files)
    assert json.loads(immr(home, "immr experiment decide --apply --json"))["readout"] == of_log["readout"]

    printed = immr(home, "immr experiment readout --by country --csv")
    rows = list(csv.DictReader(io.StringIO(printed)))
    immr(home, "immr experiment readout --by country --parquet readout.parquet")
    for row, stored in zip(rows, pq.read_table("readout.parquet").to_pylist(), strict=True):
        assert row == {column: "" if value is None else str(value) for column, value in stored.items()}
    assert [row["segment"] for row in rows if row["dimension"] and row["metric"] == "CTR"] == ["DE", "SE"]
    totals = {row["metric"]: row for row in rows if not row["dimension"]}
    for side in of_log["readout"]["variants"]:
        for name in ("queries", "impressions", "clicks", "orders", "revenue"):
            assert float(totals[name][side["name"]]) == side[name]

    [arm] = of_log["readout"]["arms"]
    found = {each["metric"]: each for each in (arm["ctr"], arm["cuped"], *arm["secondary"].values())}
    for row in rows:
        if not row["dimension"] and row["metric"] in found:
            assert float(row["difference"]) == found.pop(row["metric"])["difference"]
    assert not found, "every metric of the JSON is a row"


def test_page_report_and_terminal_show_the_same(home: Settings, tested: Experiment) -> None:
    readout = json.loads(immr(home, "immr experiment readout --json"))["readout"]
    assert sum(side["users"] for side in readout["variants"]) == USERS and readout["sample_ratio"]["ok"]
    immr(home, "immr experiment report --out test.html")
    report, page = text(Path("test.html").read_text()), text(page_of(home))
    terminal = immr(home, "immr experiment readout")
    always = readout["arms"][0]["ctr"]["always_valid"]
    assert always["low"] < 0 < always["high"], "the versions are equal"
    for side in readout["variants"]:
        assert side["queries"] == 2 * side["users"]
        for shown in (report, page, terminal):
            assert all(f"{side[name]:,}" in shown for name in ("users", "queries", "clicks", "orders"))
        for shown in (report, page):
            assert f"{side['revenue']:,.2f}" in shown
    lifts = {
        name: readout["arms"][0]["secondary"][name] for name in ("order rate", "revenue per user (CUPED)")
    }
    for name, each in {"CTR (CUPED)": readout["arms"][0]["cuped"], **lifts}.items():
        percents = [each["relative_lift"], *each["relative_interval"].values()]
        described = "{}: {:+.3g} %, from {:+.3g} % to {:+.3g} %".format(
            name, *(100 * each for each in percents)
        )
        assert described in report and described in page
        assert f"{each['difference']:+.4f}" in terminal


def test_each_test_is_kept_under_its_own_name(home: Settings, tested: Experiment) -> None:
    immr(home, "immr experiment stop")
    immr(home, "immr experiment start")
    second, first = json.loads(immr(home, "immr experiment history --json"))
    assert (first["name"], first["outcome"], bool(first["ended_by"])) == (tested.name, "stopped", True)
    assert (second["outcome"], second["ended_by"]) == ("running", "") and second["name"] != tested.name
    immr(home, f"immr experiment report --test {tested.name} --out first.html")
    page = page_of(home)
    assert tested.name in Path("first.html").read_text() and f"/tests/{tested.name}" in page
    fresh = json.loads(immr(home, "immr experiment readout --json"))["readout"]
    assert [side["users"] for side in fresh["variants"]] == [0, 0], "a second test begins without users"


def page_of(home: Settings) -> str:
    """The page's HTML, complete."""
    parts = connect(home)
    lineage = Lineage(parts.registry, lambda: None, home.drift_file, home.work_dir)
    live = LiveExperiment(home, parts.events, parts.registry.decisions, lineage.categories)
    with TestClient(create_page(home, live, lineage)) as client:
        return whole(client)
