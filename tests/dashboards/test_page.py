from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from anyio.to_thread import current_default_thread_limiter
from starlette.testclient import TestClient

from dashboards import sections
from immr.events.sqlite.log import SqliteEventLog
from immr.experiment.definition import Holdout
from immr.experiment.file import load, save
from immr.types import Click, Impression, SearchRecord
from tests.support.opened_page import opened, photo, searched, text, whole
from tests.support.page_home import (
    STARTED,
    add_drift,
    add_history,
    add_reports,
    add_samples,
    experiment,
    fill,
)
from tests.support.patience import until
from tests.support.upstream_process import free_port, picture

DECISION = {
    "ts": "2024-05-01T12:05:00+00:00",
    "action": "wait",
    "reason": "Too early.",
    "champion": "immr-1",
    "experiment": "first",
}
EARLIER = {**DECISION, "ts": "2024-05-01T12:09:00+00:00", "action": "roll back", "experiment": "before"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, upstreams: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("home")
    fill(folder, upstreams, 600, STARTED)
    add_reports(folder)
    add_drift(folder)
    add_history(folder)
    add_samples(folder)
    return folder


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[TestClient]:
    with opened(home, home / "photos", [DECISION, EARLIER]) as client:
        yield client


def test_liveness_needs_no_thread(page: TestClient) -> None:
    """All of them may wait for an event log that is down, for which the page must not be restarted."""
    assert page.portal is not None
    limiter = page.portal.call(current_default_thread_limiter)
    waiting: list[object] = []

    def occupy() -> None:
        while limiter.available_tokens:
            waiting.append(object())
            limiter.acquire_on_behalf_of_nowait(waiting[-1])

    def release() -> None:
        while waiting:
            limiter.release_on_behalf_of(waiting.pop())

    page.portal.call(occupy)
    with ThreadPoolExecutor(1) as pool:
        try:
            assert pool.submit(page.get, "/health/live").result(timeout=30).text == "ok"
        finally:
            page.portal.call(release)


def test_the_whole_page(page: TestClient) -> None:
    html = whole(page)
    shown = text(html)
    for sentence in (
        "Both versions answer, side by side.",
        "in steps of 5 seconds",
        "immr-1 (champion)",
        "The challenger is better",
        "Last entry in the promotion log: wait, 01 May 2024 12:05 ( UTC ).",
        "matches the shares",
        "2,640 training photos in 81 classes.",
        "Its file is missing. Run the pipeline again.",
        "All metrics, challenger against champion",
        "position-weighted CTR",
        "users with any number of looks",
        "of the users",
        "promoted",
        "by ann",
        "immr-9 waits for this test to end, and starts then with 20 % of the users.",
        "No bots among the users.",
        "Health of the variants, which the guardrails check",
        "rank 10",
        "the items' categories are not known here",
        "immr-2 challenger",
        "The photos do not lie where they did.",
        "Promote immr-2 Promotes the winner, or ends challengers that lost; waits if it is too early to tell. "
        "immr experiment decide --apply",
        "immr experiment stop",
    ):
        assert sentence in shown
    assert html.count('<svg class="chart"') == 7
    assert "0.0 days" not in html and "withheld" not in shown


def test_the_page_loads_nothing_from_other_hosts(page: TestClient) -> None:
    answer = page.get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", answer.text)
    assert " style=" not in answer.text
    assert "<script>" not in answer.text
    for address in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text)):
        assert page.get(address).status_code == 200


def test_pictures_come_through_the_page(page: TestClient) -> None:
    found = page.get("/items/immr-2/item-4/image")
    assert (found.headers["content-type"], found.content) == ("image/jpeg", picture(4))
    for address in (
        "/items/immr-2/nothing/image",
        "/items/immr-77/item-4/image",
        "/items/immr-2/..%2f..%2fseen/image",
    ):
        missing = page.get(address)
        assert (missing.status_code, missing.headers["content-type"]) == (404, "image/svg+xml")


def test_a_report_may_run_nothing(page: TestClient) -> None:
    report = page.get("/reports/governance-concept.html")
    assert "What was kept" in report.text
    policy = report.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert page.get("/reports/summary.json").status_code == 404


def test_the_report_of_an_earlier_test_may_run_nothing(page: TestClient) -> None:
    assert 'href="/tests/before"' in whole(page)
    report = page.get("/tests/before")
    assert "Better" in report.text and "sandbox" in report.headers["content-security-policy"]
    for name in ("nothing", "..%2f..%2fdrift"):
        assert page.get(f"/tests/{name}").status_code == 404


def test_a_version_links_to_its_run_and_its_pipeline_run(tmp_path: Path, upstreams: list[str]) -> None:
    fill(tmp_path, upstreams, 20, STARTED)
    links = {"tracking_link": "https://mlflow.example", "pipelines_link": "https://pipelines.example"}
    with opened(tmp_path, **links) as page:
        row = whole(page).partition('id="version-immr-2"')[2].partition("</tr>")[0]
        answer = searched(page, files=photo()).text
    assert 'href="https://mlflow.example/#/runs/run-2"' in row
    assert 'href="https://pipelines.example/#/runs/details/pipeline-7"' in row
    assert 'href="#version-immr-2"' in answer, "a hit leads to its version"
    assert "copy of immr-1, for an A/A test" in row


def test_a_champion_alone_has_nothing_withheld(tmp_path: Path, upstreams: list[str]) -> None:
    fill(tmp_path, upstreams[:1], 40, STARTED)
    with opened(tmp_path) as client:
        shown = text(whole(client))
    assert "no test is running" in shown
    assert "withheld" not in shown and "No comparison" not in shown


@pytest.mark.parametrize("name", ["ctr", "readout", "history", "places", "latency", "models", "reports"])
def test_an_unchanged_section_is_not_sent_again(page: TestClient, name: str) -> None:
    until(lambda: page.get(f"/sections/{name}").status_code != 204)  # 204: not there yet
    first = page.get(f"/sections/{name}")
    seen = re.search(r"\?seen=(\w+)", first.text)
    assert first.status_code == 200
    assert seen
    assert page.get(f"/sections/{name}", params={"seen": seen[1]}).status_code == 204


def test_prometheus_reads_what_only_the_page_knows(page: TestClient) -> None:
    shown = page.get("/metrics").text
    for line in (
        r'immr_experiment_users\{.*variant="challenger".*\} \d{3}\.0',
        r"immr_experiment_sample_ratio_p_value [01]\.\d+",
        r'immr_experiment_ctr_difference_low\{variant="challenger"\} 0\.0\d+',
        r'immr_model_version_created_timestamp_seconds\{.*role="champion"\} 1\.7145648e\+09',
        r'immr_drift_found\{what="query photos"\} 1\.0',
        r"immr_features_age_seconds \d",
        r'immr_decisions\{action="wait"\} 1\.0',
        r'immr_decisions\{action="roll back"\} 1\.0',
    ):
        assert re.search(line, shown), line
    assert "user-" not in shown


def test_there_is_no_other_section(page: TestClient) -> None:
    assert page.get("/sections/page").status_code == 404


def test_nothing_there_yet(tmp_path: Path) -> None:
    with opened(tmp_path) as client:
        shown = text(whole(client))
        answer = client.post("/search", files=photo())
    for sentence in (
        "No version is serving yet.",
        "No shopper has seen an item yet.",
        "No test is running.",
        "No search has come through the gateway yet.",
        "No pipeline has run yet.",
        "Nothing has been shown in this test yet.",
        "Drift has not been checked yet:",
        "There has been no test yet.",
    ):
        assert sentence in shown
    assert answer.status_code == 200
    assert "No version is serving yet" in answer.text


def test_an_experiment_without_shoppers_or_versions(tmp_path: Path) -> None:
    away = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    fill(tmp_path, away, 0, STARTED)
    with opened(tmp_path) as client:
        shown = text(whole(client))
        answer = searched(client, files=photo())
    assert "not checked yet" in shown
    assert shown.count("o comparison:") == 1
    assert answer.status_code == 502
    assert text(answer.text).count("Nothing answers at") == 2


def test_a_champion_alone(tmp_path: Path, upstreams: list[str]) -> None:
    fill(tmp_path, upstreams[:1], 40, STARTED)
    with opened(tmp_path) as client:
        assert "One version is serving: immr-1." in text(client.get("/").text)
        assert "The version answered." in client.post("/search", files=photo()).text


def test_an_invalid_experiment_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "experiment.json").write_text("{")
    with opened(tmp_path) as client:
        assert "is not JSON" in whole(client)


def test_an_interleaved_experiment_shows_what_shoppers_prefer(tmp_path: Path, upstreams: list[str]) -> None:
    mixed = replace(experiment(upstreams, STARTED), kind="interleave")
    save(mixed, tmp_path / "experiment" / "experiment.json")
    log = SqliteEventLog(tmp_path / "events" / "events.db")
    for user in range(30):
        query_id, who = f"q{user}", f"user-{user}"
        search = SearchRecord(query_id, who, STARTED, "challenger", "immr-2", 20.0, 2)
        shown = [
            Impression(query_id, f"item-{place}", place, who, "challenger", f"immr-{place}", STARTED)
            for place in (1, 2)
        ]
        log.record_search(search, shown)
        wanted = "item-1" if user % 5 == 0 else "item-2"
        log.record_clicks([Click(f"click-{user}", "click", query_id, wanted, STARTED)])
    log.close()
    with opened(tmp_path) as page:
        shown = text(whole(page))
    assert "+0.60" in shown and "the challenger won 24, the champion 6" in shown
    assert "users see the items of both versions" in shown


def test_all_challengers_are_shown(tmp_path: Path) -> None:
    fill(tmp_path, [f"http://127.0.0.1:{free_port()}" for _ in range(4)], 900, STARTED)
    several = load(tmp_path / "experiment" / "experiment.json")
    variants = tuple(replace(side, ended=side.name == "challenger-3") for side in several.variants)
    held_out = Holdout(0.05, "years", STARTED)
    save(replace(several, variants=variants, holdout=held_out), tmp_path / "experiment" / "experiment.json")
    with opened(tmp_path) as page:
        shown = text(whole(page))
        metrics = page.get("/metrics").text
    for sentence in (
        "CTR, challenger − champion",
        "CTR, challenger-2 − champion",
        "Lift, challenger-2",
        "orders per user, challenger-2",
        "order rate, challenger-2",
        "immr-4 challenger-3 (left the test)",
        "for one look at all challengers",
        "5 % of all users are held out",
    ):
        assert sentence in shown
    assert "CTR, challenger-3 − champion" not in shown  # it has left
    assert 'immr_experiment_ctr_difference{variant="challenger-2"}' in metrics


def test_a_section_that_takes_long_is_shown_as_it_was_and_marked(
    tmp_path: Path, upstreams: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first visitor after a start waits for sections. A later one is not shown old figures as new ones."""
    fill(tmp_path, upstreams, 20, STARTED)
    with opened(tmp_path) as page:
        before = whole(page)
        may_end = threading.Event()
        monkeypatch.setitem(sections.SECTIONS, "history", lambda _: may_end.wait(60) and {})
        try:
            busy = page.get("/").text
        finally:
            may_end.set()
        part = re.compile(r'<section id="history"(.*?)>(.*?)</section>', re.DOTALL)
        [(marked, content)], [(unmarked, earlier)] = part.findall(busy), part.findall(before)
        assert content == earlier
        assert 'aria-busy="true"' in marked and "aria-busy" not in unmarked
        assert 'history?seen="' in marked and 'hx-trigger="load, ' in marked, "the browser asks at once"


def test_a_section_that_fails_unexpectedly_leaves_the_others(
    tmp_path: Path, upstreams: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, upstreams, 20, STARTED)
    monkeypatch.setitem(sections.SECTIONS, "history", lambda _: int("no number"))
    with opened(tmp_path) as page:
        shown = text(whole(page))
    assert "IMMR did not expect this error" in shown and "searches" in shown
    assert "the section history failed" in caplog.text
