"""Garbage collection keeps what is in use."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.experiment import changes
from immr.experiment.definition import CHAMPION, Experiment, Variant
from immr.experiment.file import save
from immr.experiment.queue import Queue, WaitingVersion, save_queue
from immr.loop.index import collect_garbage, index
from immr.settings import Settings
from immr.wiring import connect
from tests.support.catalogue_home import (
    NOON,
    PREPROCESSING,
    RECIPE,
    items,
    prepared,
    settings,
    version,
)

__all__ = ["prepared", "settings"]


def test_gc_keeps_the_rollback_target(settings: Settings) -> None:
    begun = changes.begin(("immr-2", "http://a"), {"challenger": ("immr-1", "http://b")}, 0.5, NOON)
    save(changes.promote(begun, NOON), settings.experiment_file)
    assert collect_garbage(connect(settings), keep=0, dry_run=True)["immr-2"] == "live, kept"


def test_gc_keeps_a_collection_of_another_registry(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = connect(settings)
    other = [replace(one, manifest_hash="of another shop") for one in parts.registry.versions()]
    monkeypatch.setattr(parts.registry, "versions", lambda: other)
    assert collect_garbage(parts, keep=0) == {}
    assert set(parts.index.versions()) == {"immr-1", "immr-2"}


def test_gc_keeps_a_version_that_waits(settings: Settings) -> None:
    waiting = Queue().add(WaitingVersion("immr-2", "immr-search:immr-2", 0.5, NOON))
    save_queue(waiting, settings.queue_file)
    assert collect_garbage(connect(settings), keep=0)["immr-2"] == "waits in the queue, kept"
    assert "immr-2" in connect(settings).index.versions()


def test_gc_keeps_live_versions_and_the_newest(settings: Settings) -> None:
    index(connect(settings), version(settings, 3), items(settings.home))
    assert collect_garbage(connect(settings), keep=1, dry_run=True) == {
        "immr-3": "one of the 1 newest, kept",
        "immr-2": "would be deleted",
        "immr-1": "live, kept",
    }
    with closing(connect(settings).index.open("immr-2", RECIPE.embedding_dim, PREPROCESSING)):
        assert collect_garbage(connect(settings), keep=1)["immr-2"] == "in use by a process, kept"
    save(Experiment("e", "salt", (Variant(CHAMPION, "http://x", "immr-2", 1.0),)), settings.experiment_file)
    assert collect_garbage(connect(settings), keep=0) == {
        "immr-3": "deleted",
        "immr-2": "live, kept",
        "immr-1": "live, kept",
    }
    settings.experiment_file.unlink()
    done = CliRunner(env=settings.environment()).invoke(app, ["index", "gc", "--keep", "0"])
    assert (done.exit_code, "immr-2" in done.output) == (0, True)
    assert connect(settings).index.versions() == ["immr-1"]
