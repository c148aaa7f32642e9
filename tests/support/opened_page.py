"""The page of a filled home, without a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from dashboards.lineage import Lineage
from dashboards.live_experiment import LiveExperiment
from dashboards.page import create_page
from immr.events.sqlite.log import SqliteEventLog
from immr.settings import Settings
from tests.support.page_home import STARTED, VersionsThere
from tests.support.patience import until
from tests.support.upstream_process import picture


@contextmanager
def opened(
    home: Path,
    samples: Path | None = None,
    decisions: Sequence[Mapping[str, Any]] = (),
    **settings: Any,
) -> Iterator[TestClient]:
    """A client of the page; `settings` are added to those of the home."""
    there = Settings(home=home, **settings)
    log = SqliteEventLog(home / "events" / "events.db")
    lineage = Lineage(VersionsThere(STARTED), lambda: STARTED, home / "drift.json", home / "sets", keep_s=0)
    live = LiveExperiment(there, log, lambda: decisions, lineage.categories, keep_s=0)
    with TestClient(create_page(there, live, lineage, samples)) as client:
        yield client
    log.close()


def whole(page: TestClient) -> str:
    """The page once every section is there, as a browser sees it a moment later."""

    def complete() -> str:
        html = page.get("/").text
        return "" if "Reading the event log" in html else html

    return until(complete)


def photo(content: bytes = picture(3)) -> dict[str, Any]:
    """The upload of a photo."""
    return {"image": ("photo.jpg", content, "image/jpeg")}


def text(html: str) -> str:
    """What can be read, without tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def next_part(html: str) -> str:
    """The address where the browser gets the answers that are still missing; empty if there are none."""
    found = re.search(r'hx-get="(/searches/[^"]+)"', html)
    return found[1] if found else ""


def searched(page: TestClient, **form: Any) -> httpx.Response:
    """The search with all answers, as a browser has it in the end."""
    answer = page.post("/search", **form)
    while more := next_part(answer.text):
        answer = page.get(more)
    return answer
