"""Watch: the readout of an event log or of exported files, the promotion log, and the next click log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pyarrow.parquet as pq
import pytest

from immr.errors import EventLogError, ExperimentError
from immr.events.event_log import EventLog
from immr.events.query_photos import PhotoStore
from immr.experiment import changes
from immr.experiment.assignment import assign
from immr.experiment.definition import Experiment
from immr.experiment.file import save
from immr.loop import catalogue, govern, watch
from immr.loop.watch import export_events, read_out
from immr.settings import Settings
from immr.types import Click, Impression, Item, SearchRecord
from immr.wiring import Parts, connect

STARTED = datetime(2025, 3, 1, tzinfo=UTC)
USERS = 400


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return connect(Settings(home=tmp_path / "home"))


@pytest.fixture
def running(parts: Parts) -> Experiment:
    """A test of which every user has made one search; half of the users click on the first item."""
    champion, challenger = ("immr-1", "http://127.0.0.1:9"), ("immr-2", "http://127.0.0.1:10")
    experiment = replace(changes.begin(champion, {"challenger": challenger}, 0.5, STARTED), started=STARTED)
    parts.settings.home.mkdir(parents=True, exist_ok=True)
    save(experiment, parts.settings.experiment_file)
    record(parts.events, experiment, STARTED)
    return experiment


def record(log: EventLog, experiment: Experiment, since: datetime) -> None:
    with log.batch():  # one commit
        for number in range(USERS):
            user, query, ts = f"user-{number}", f"q-{since:%d}-{number}", since + timedelta(minutes=number)
            variant = assign(experiment, user)
            about = user, variant.name, variant.model_version, ts
            shown = [Impression(query, f"i{place}", place, *about) for place in (1, 2)]
            search = SearchRecord(query, user, ts, variant.name, variant.model_version, 20.0, 2)
            log.record_search(search, shown)
            if number % 2:
                log.record_clicks([Click(f"{query}-1", "click", query, "i1", ts)])


def test_segments_are_withheld_with_the_comparison(parts: Parts, running: Experiment) -> None:
    assert [each.dimension for each in read_out(parts, by=["rank"]).segments] == ["rank", "rank"]
    assert running.challenger is not None
    weights = replace(running.champion, weight=0.9), replace(running.challenger, weight=0.1)
    save(replace(running, variants=weights), parts.settings.experiment_file)
    watched = read_out(parts, by=["rank"])
    assert watched.readout.withheld is not None and watched.segments == ()


def test_items_that_left_or_joined_the_catalogue_during_a_test_have_a_category(
    parts: Parts, running: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(parts.registry), "get", lambda self, version: version)
    monkeypatch.setattr(govern, "training_set_of", lambda parts, version: Mock(categories={"i1": "Fruit"}))
    new = Item("i2", "a pear", "", "Fruit/Pears", "", 1.0, STARTED)
    catalogue.outbox(parts).append([new], ["i1"])
    found = read_out(parts, by=["category"]).segments
    assert sorted(each.value for each in found) == ["Fruit", "Fruit/Pears"]
    assert running.challenger is not None


def test_users_are_counted_by_variant(parts: Parts, running: Experiment) -> None:
    watched = read_out(parts)
    assert watched.experiment == running
    assert sum(side.users for side in watched.readout.variants) == USERS
    assert watched.readout.ctr is not None


def test_the_exported_tables_give_the_same_readout(parts: Parts, running: Experiment, tmp_path: Path) -> None:
    from_log = read_out(parts)
    folder = tmp_path / "exported"
    folder.mkdir()
    pq.write_table(parts.events.joined(), folder / "impressions.parquet")
    pq.write_table(parts.events.searches(None), folder / "searches.parquet")
    from_files = read_out(parts, folder)
    assert from_files.readout.variants == from_log.readout.variants
    assert from_files.decision.action == from_log.decision.action
    with pytest.raises(ExperimentError):
        read_out(parts, tmp_path)


def test_without_an_experiment_there_is_nothing_to_read_out(parts: Parts) -> None:
    with pytest.raises(ExperimentError):
        read_out(parts)


class Versions:
    """A registry that knows every version and keeps decisions."""

    def __init__(self) -> None:
        self.decisions: list[dict[str, object]] = []

    def get(self, name: str) -> str:
        return name

    def record_decision(self, **decision: object) -> None:
        self.decisions.append(decision)


def test_the_decision_goes_to_the_promotion_log(parts: Parts, running: Experiment) -> None:
    registry = Versions()
    fake = Parts.of(parts.settings, registry=registry, events=parts.events)
    watched = read_out(fake)
    watch.record(fake, watched, applied=False)
    (decision,) = registry.decisions
    assert decision["action"] == watched.decision.action
    assert (decision["champion"], decision["challenger"]) == ("immr-1", "immr-2")


def test_the_export_is_the_next_click_log(parts: Parts, running: Experiment, tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="photo"):
        export_events(parts, tmp_path / "log")
    photos = PhotoStore(parts.settings.photos_dir)
    photos.keep(f"q-{STARTED:%d}-1", b"\xff\xd8\xff photo")
    exported = export_events(parts, tmp_path / "log", since=datetime(2025, 3, 1))  # naive: UTC
    assert exported.queries == 1
    impressions = pq.read_table(tmp_path / "log" / "impressions.parquet").to_pylist()
    assert [(row["item_id"], row["clicked"]) for row in impressions] == [("i1", True), ("i2", False)]
    json.dumps([row["query_id"] for row in impressions])
