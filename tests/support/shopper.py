"""What tests do with the search API: search, click, and read the event log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from immr.experiment.assignment import assign
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment, Variant
from immr.settings import Settings
from immr.wiring import connect
from tests.support import tiny_version
from tests.support.patience import until

RED = tiny_version.photo("red")


def search(
    client: httpx.Client, image: bytes = RED, variant: str = "direct", **fields: str
) -> httpx.Response:
    return client.post(
        "/v1/search",
        files={"image": ("a.jpg", image)},
        data=fields,
        headers={"x-immr-variant": variant},
    )


def click(token: str, kind: str = "click", ts: datetime | None = None) -> dict[str, str]:
    return {"type": kind, "click_token": token, "ts": (ts or datetime.now(UTC)).isoformat()}


def assert_problem(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status and problem["title"] and problem["type"] == "about:blank"
    for word in words:
        assert word in problem["detail"]
    return problem


def rows_now(settings: Settings, query_id: str) -> list[dict[str, Any]]:
    """The impressions of a search in the log."""
    log = connect(settings).events
    try:
        return [row for row in log.joined().to_pylist() if row["query_id"] == query_id]
    finally:
        log.close()


def rows(settings: Settings, query_id: str) -> list[dict[str, Any]]:
    """The same, as soon as they are recorded: a search reaches the log after its answer."""
    found: list[dict[str, Any]] = []
    until(lambda: found.extend(rows_now(settings, query_id)) or found)
    return found


def recorded_search(settings: Settings, query_id: str) -> dict[str, Any]:
    rows(settings, query_id)
    log = connect(settings).events
    try:
        [row] = [row for row in log.searches().to_pylist() if row["query_id"] == query_id]
        return dict(row)
    finally:
        log.close()


def wait_until_recorded(settings: Settings, searches: int) -> None:
    log = connect(settings).events
    try:
        until(lambda: log.searches().num_rows >= searches)
    finally:
        log.close()


def experiment(champion_url: str, challenger_url: str, weight: float = 0.5) -> Experiment:
    champion = Variant(CHAMPION, champion_url, "immr-1", 1 - weight)
    return Experiment("test", "salt", (champion, Variant(CHALLENGER, challenger_url, "immr-2", weight)))


def alone(url: str, version: str = "immr-1") -> Experiment:
    return Experiment("test", "salt", (Variant(CHAMPION, url, version, 1.0),))


def user_of(variant: str, wanted: Experiment) -> str:
    return next(user for user in map(str, range(1000)) if assign(wanted, user).name == variant)
