"""Catalogue changes on a real registry, real document towers and an embedded index."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from immr.data.attributes import CLASS
from immr.index.outbox import Outbox
from immr.loop import catalogue
from immr.loop.index import index
from immr.loop.items import delivery
from immr.settings import Settings
from immr.types import Item
from immr.wiring import connect
from tests.support import qdrant_process
from tests.support.catalogue_home import (
    PREPROCESSING,
    RECIPE,
    blue,
    embedding,
    items,
    prepared,
    run,
    settings,
    titles,
    version,
    write,
)

__all__ = ["prepared", "settings"]


def test_each_version_embeds_a_new_item_with_its_own_tower(settings: Settings, tmp_path: Path) -> None:
    output = run(settings, "upsert", str(write(tmp_path / "new.parquet", [blue(settings)])))
    assert [(each["version_id"], each["live"], each["waiting"]) for each in output] == [
        ("immr-1", True, 0),
        ("immr-2", False, 0),
    ]
    for number in (1, 2):
        with closing(
            connect(settings).index.open(f"immr-{number}", RECIPE.embedding_dim, PREPROCESSING)
        ) as collection:
            best = collection.search(embedding(settings, number, blue(settings)), 1)[0]
            assert (best.item_id, best.cosine) == ("blue", pytest.approx(1.0, abs=1e-4))


def test_changes_wait_for_an_unreachable_index_and_arrive_in_order(settings: Settings) -> None:
    away = settings.model_copy(update={"index_url": "http://127.0.0.1:9"})
    renamed = dataclasses.replace(items(settings.home)[0], title="renamed")
    for changed, deleted in (([blue(settings)], []), ([renamed], ["green"]), ([], ["blue"])):
        waiting = catalogue.change(connect(away), changed, deleted)
        assert [(each.version_id, each.live) for each in waiting] == [("immr-1", True)]
        assert "is not available" in waiting[0].error
    assert run(away, "deliver", exit_code=3)[0]["waiting"] == 4
    run(settings, "deliver")
    assert [titles(settings, number) for number in (1, 2)] == [{"red": "renamed"}] * 2


def test_changes_after_a_lost_outbox_are_delivered(settings: Settings) -> None:
    catalogue.change(connect(settings), [blue(settings)], ["green"])  # waits in the journal of immr-1
    index(connect(settings), version(settings, 2), items(settings.home))  # is part of the build of immr-2
    (settings.home / "items" / "outbox.db").unlink()
    after = catalogue.change(connect(settings), [], ["blue"])
    assert [(each.version_id, each.waiting, each.error) for each in after] == [
        ("immr-1", 0, ""),
        ("immr-2", 0, ""),
    ]
    assert "blue" not in titles(settings, 1) and "blue" not in titles(settings, 2)


def test_an_outbox_that_ends_before_the_collection_is_an_error(settings: Settings) -> None:
    catalogue.change(connect(settings), [blue(settings)], ["green"])
    index(connect(settings), version(settings, 2), items(settings.home))
    path = settings.home / "items" / "outbox.db"
    path.unlink()
    Outbox(path).append([], ["blue"])  # as if the index had not answered
    errors = {each.version_id: each.error for each in delivery.deliver(connect(settings))}
    assert "includes changes up to 2" in errors["immr-2"] and "ends at 1" in errors["immr-2"]
    index(connect(settings), version(settings, 2), items(settings.home))
    assert {each.version_id: each.error for each in delivery.deliver(connect(settings))}["immr-2"] == ""
    assert "blue" not in titles(settings, 2)


def test_a_version_indexed_later_includes_earlier_changes(settings: Settings) -> None:
    catalogue.change(connect(settings), [blue(settings)], ["green"])
    report = index(connect(settings), version(settings, 3), items(settings.home))
    assert (report.points, report.sequence) == (2, 2)
    assert set(titles(settings, 3)) == {"red", "blue"}
    assert {each.version_id: each.waiting for each in delivery.status(connect(settings))} == {
        "immr-1": 0,
        "immr-2": 0,
        "immr-3": 0,
    }
    catalogue.change(connect(settings), [], ["blue"])
    assert index(connect(settings), version(settings, 3), items(settings.home)).sequence == 3
    assert set(titles(settings, 3)) == {"red"}


def test_an_export_that_reverts_changes_wins(settings: Settings) -> None:
    before = items(settings.home)
    index(connect(settings), version(settings, 2), before)
    sale = dataclasses.replace(before[0], title="SALE")
    catalogue.change(connect(settings), [sale], ["green"])
    assert titles(settings, 2) == {"red": "SALE"}
    later = [dataclasses.replace(item, updated_at=datetime.now(UTC)) for item in before]
    report = index(connect(settings), version(settings, 2), later)
    assert (report.points, report.reused) == (2, False)
    assert titles(settings, 2) == {"red": "a red thing", "green": "a green thing"}
    assert index(connect(settings), version(settings, 2), later).reused


@pytest.mark.slow
def test_changes_during_a_build_that_dies_reach_the_new_content(
    settings: Settings,
) -> None:
    with qdrant_process.empty() as url:
        server = settings.model_copy(update={"index_url": url})
        for number in (1, 2):
            index(connect(server), version(server, number), items(server.home))
        export = [dataclasses.replace(item, price=2.0) for item in items(server.home)]
        _, sequence = delivery.current(connect(server), export)
        renamed = dataclasses.replace(items(server.home)[0], title="renamed")
        catalogue.change(
            connect(server), [renamed], ["green"]
        )  # goes to the content that serves during the build
        embeddings_ND = np.stack([embedding(server, 1, item) for item in export])
        connect(server).index.build(
            version(server, 1), export, embeddings_ND, sequence
        )  # and then the build dies
        assert [each["waiting"] for each in run(server, "status", exit_code=3)] == [2, 0]
        assert [each["waiting"] for each in run(server, "deliver")] == [0, 0]
        assert titles(server, 1) == {"red": "renamed"}


def test_a_changed_item_keeps_the_class_that_governance_gave_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    governed = [dataclasses.replace(item, attributes={CLASS: "7"}) for item in items(settings.home)]
    monkeypatch.setattr(delivery.govern, "training_set_of", lambda parts, version: Governed(governed))
    parts = connect(settings)
    index(parts, version(settings, 1), governed)
    cheaper = dataclasses.replace(items(settings.home)[0], price=0.5)
    catalogue.change(parts, [cheaper, blue(settings)])
    index(parts, version(settings, 2), governed)  # a build also includes the changes
    for number in (1, 2):
        with closing(parts.index.open(f"immr-{number}", RECIPE.embedding_dim, PREPROCESSING)) as collection:
            collection.refresh()
            found = {name: collection.item(name) for name in ("red", "green", "blue")}
        assert {name: each.attributes.get(CLASS) for name, each in found.items() if each} == {
            "red": "7",
            "green": "7",
            "blue": None,  # new, so governance has not seen it
        }


@dataclasses.dataclass
class Governed:
    """A training set that has items."""

    items: list[Item]

    def classes_of(self, item_ids: Sequence[str]) -> dict[str, str]:
        return {item.item_id: str(item.attributes[CLASS]) for item in self.items if item.item_id in item_ids}
