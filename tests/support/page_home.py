"""A home with an experiment, an event log and reports, as after a pipeline run and shoppers' searches."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from immr.drift.findings import CATEGORIES, FEATURES, PHOTOS, DriftFinding, DriftReport
from immr.events.sqlite.log import SqliteEventLog
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment, Variant
from immr.experiment.file import save
from immr.experiment.history import Happening, TestEvent, append
from immr.experiment.queue import Queue, WaitingVersion, save_queue
from immr.loop.experiment.aa import COPY_OF
from immr.registry.versions import PIPELINE_RUN
from immr.types import ALL_ROLES, Click, Impression, ModelVersion, Role, SearchRecord
from tests.support.upstream_process import picture

STARTED = datetime(2024, 5, 1, 12, tzinfo=UTC)
CTR = {"champion": 0.05, "challenger": 0.09, "challenger-2": 0.05, "challenger-3": 0.04}


def experiment(urls: Sequence[str], started: datetime) -> Experiment:
    names = ALL_ROLES[: len(urls)]
    variants = tuple(
        Variant(name, url, f"immr-{number}", 1 / len(urls))
        for number, (name, url) in enumerate(zip(names, urls, strict=True), start=1)
    )
    return Experiment("first", "salt", variants, started=started, min_days=0)


def fill(home: Path, urls: Sequence[str], users: int, started: datetime) -> None:
    """Write the experiment, and the events of its first two minutes."""
    running = experiment(urls, started)
    save(running, home / "experiment" / "experiment.json")
    log = SqliteEventLog(home / "events" / "events.db", synchronous="NORMAL")
    dice = random.Random(0)
    with log.batch():  # one commit
        for user in range(users):
            _shop(log, running, f"user-{user}", started + timedelta(seconds=120 * user / users), dice)
    log.close()


def _shop(log: SqliteEventLog, running: Experiment, user_id: str, ts: datetime, dice: random.Random) -> None:
    variant = assign(running, user_id)
    query_id = f"q-{user_id}"
    search = SearchRecord(
        query_id, user_id, ts, variant.name, variant.model_version, 20 + dice.expovariate(1 / 8), 10
    )
    shown = [
        Impression(query_id, f"item-{place}", place, user_id, variant.name, variant.model_version, ts)
        for place in range(1, 11)
    ]
    log.record_search(search, shown)
    clicked = [one.item_id for one in shown if dice.random() < CTR[variant.name]]
    clicks = [Click(f"{query_id}-{item}", "click", query_id, item, ts) for item in clicked]
    orders = [
        Click(f"{query_id}-{item}-o", "order", query_id, item, ts) for item in clicked if dice.random() < 0.3
    ]
    log.record_clicks([*clicks, *orders])


class VersionsThere:
    """Two versions, as a registry describes them."""

    def __init__(self, created: datetime) -> None:
        self._created = created
        self._versions = [
            ModelVersion(
                "immr", number, f"key-{number}", f"run-{number}", 8, "p", f"manifest-{number}", recipe
            )
            for number, recipe in ((1, "image-only"), (2, "concept"))
        ]

    def versions(self) -> list[ModelVersion]:
        return self._versions

    def roles(self) -> dict[Role, ModelVersion]:
        return {"champion": self._versions[0], "challenger": self._versions[1]}

    def tags(self, version: ModelVersion) -> dict[str, str]:
        of_copy = {"gate": "It may go on.", PIPELINE_RUN: "pipeline-7", COPY_OF: "immr-1"}
        return of_copy if version.number == 2 else {}

    def created(self, version: ModelVersion) -> datetime:
        return self._created


def add_drift(home: Path) -> None:
    """A drift report with one of each finding: drift, no drift, unknown."""
    now = datetime(2024, 5, 1, 12, tzinfo=UTC)
    findings = (
        DriftFinding(
            PHOTOS, True, "The photos do not lie where they did.", "Look at the newest.", {"mmd2": 0.02}
        ),
        DriftFinding(CATEGORIES, False, "The same categories are clicked."),
        DriftFinding(FEATURES, None, "No item features were ever loaded.", "Run `immr materialize`."),
    )
    DriftReport("immr-1", now, now - timedelta(days=7), findings).write(home / "drift.json")


def add_reports(home: Path) -> None:
    folder = home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    html = "<!doctype html><title>r</title><style>h1{color:#123}</style><h1>What was kept</h1><p>All.</p>"
    (folder / "governance-concept.html").write_text(html)
    entries = [
        {
            "title": "Evaluation of immr-2",
            "file": "missing.html",
            "recipe": "concept",
            "sentence": "It may go on.",
        },
        {
            "title": "Data governance",
            "file": "governance-concept.html",
            "recipe": "concept",
            "sentence": "2,640 training photos in 81 classes.",
        },
    ]
    for age, entry in enumerate(entries):
        described = folder / f"{age}.json"
        described.write_text(json.dumps(entry))
        os.utime(described, (1_700_000_000 - age,) * 2)


def add_samples(home: Path) -> None:
    """More photos than the page offers, in a folder below `photos`."""
    folder = home / "photos" / "below"
    folder.mkdir(parents=True)
    for number in range(15):
        (folder / f"{number:02d}.jpg").write_bytes(picture(number, 48))


def add_history(home: Path) -> None:
    """One earlier test with its report, the current one, and a version that waits."""
    folder = home / "experiment"
    noon = datetime(2024, 5, 1, 9, tzinfo=UTC)
    steps: tuple[tuple[str, Happening, int], ...] = (
        ("before", "started", 0),
        ("before", "promoted", 2),
        ("first", "started", 3),
    )
    for test, what, hours in steps:
        ts = noon + timedelta(hours=hours)
        append(
            folder / "history.jsonl", TestEvent(ts, test, what, "ann", "immr-0", "immr-1", 0.5, f"{what}.")
        )
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports" / "before.html").write_text("<!doctype html><title>r</title><p>Better.</p>")
    waiting = WaitingVersion("immr-9", "immr-search:immr-9", 0.2, noon)
    save_queue(Queue((waiting,)), folder / "queue.json")
