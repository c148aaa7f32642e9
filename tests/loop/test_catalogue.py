"""Catalogue changes on a real registry, real document towers and an embedded index."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from immr.cli import app
from immr.data.attributes import CLASS
from immr.errors import ContractError
from immr.experiment import changes
from immr.experiment.definition import CHAMPION, Experiment, Variant, save
from immr.experiment.queue import Queue, WaitingVersion, save_queue
from immr.index.outbox import Outbox
from immr.loop import catalogue
from immr.loop.index import index
from immr.model.documents import encode_documents
from immr.model.encoders.by_name import preprocessing_of
from immr.model.model_card import TOWERS, Card
from immr.model.towers import Towers
from immr.settings import Settings
from immr.types import FloatArray, Item, ModelVersion
from immr.wiring import connect
from tests.support import qdrant_process, sparse_copy
from tests.support.tiny_training_set import MODEL

RECIPE = dataclasses.replace(MODEL, fusion="image")
PREPROCESSING = preprocessing_of(RECIPE).hash
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with versions immr-1 and immr-2, and immr-3 without a collection; created once."""
    home = tmp_path_factory.mktemp("home")
    registry = connect(Settings(home=home)).registry
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        folder = home / f"trained-{seed}"
        folder.mkdir()
        torch.save(Towers(RECIPE).eval().state_dict(), folder / TOWERS)
        Card("tiny", RECIPE, preprocessing_of(RECIPE), manifest_hash="m", key=str(seed)).write(folder)
        run_id = registry.runs.start(f"run-{seed}", {}, key=str(seed))
        registry.register(
            folder,
            str(seed),
            run_id,
            dim=RECIPE.embedding_dim,
            preprocessing_hash=PREPROCESSING,
            manifest_hash="m",
            recipe="tiny",
        )
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (80, 80), colour).save(home / f"{colour}.png")
    settings = Settings(home=home, index_url=f"edge://{home}/index")
    for number in (1, 2):
        index(connect(settings), registry.get(f"immr-{number}"), items(home))
    registry.set_role("champion", registry.get("immr-1"))
    return home


@pytest.fixture
def settings(prepared: Path, tmp_path: Path) -> Settings:
    home = sparse_copy.copy(prepared, tmp_path / "home")
    return Settings(
        home=home, tracking_url=f"sqlite:///{prepared}/mlflow/mlflow.db", index_url=f"edge://{home}/index"
    )


def items(home: Path) -> list[Item]:
    return [
        Item(name, f"a {name} thing", "", "Things", str(home / f"{name}.png"), 1.0, NOON)
        for name in ("red", "green")
    ]


def blue(settings: Settings) -> Item:
    return Item("blue", "a blue thing", "", "Things", str(settings.home / "blue.png"), 3.0, NOON)


def write(file: Path, changed: list[Item]) -> Path:
    table = pa.Table.from_pylist([dataclasses.asdict(item) for item in changed])
    pq.write_table(table.drop_columns("attributes"), file)  # a shop has a column for each
    return file


def version(settings: Settings, number: int) -> ModelVersion:
    return connect(settings).registry.get(f"immr-{number}")


def titles(settings: Settings, number: int) -> dict[str, str]:
    with closing(
        connect(settings).index.open(f"immr-{number}", RECIPE.embedding_dim, PREPROCESSING)
    ) as collection:
        found = collection.search(embedding(settings, number, items(settings.home)[0]), 10)
    return {candidate.item_id: candidate.title for candidate in found}


def embedding(settings: Settings, number: int, item: Item) -> FloatArray:
    folder = connect(settings).registry.fetch(version(settings, number), settings.cache_dir)
    return encode_documents(folder, [item], settings.cache_dir)[0]


def run(settings: Settings, *arguments: str, exit_code: int = 0) -> list[dict[str, object]]:
    done = CliRunner(env=settings.environment()).invoke(app, ["items", *arguments, "--json"])
    assert done.exit_code == exit_code, done.output
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


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


def test_deleting_twice_is_harmless(settings: Settings) -> None:
    run(settings, "delete", "red", "never-there")
    run(settings, "delete", "red")
    assert [titles(settings, number) for number in (1, 2)] == [{"green": "a green thing"}] * 2
    assert [(each["delivered"], each["latest"], each["searched"]) for each in run(settings, "status")] == [
        (3, 3, 3)
    ] * 2


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
    errors = {each.version_id: each.error for each in catalogue.deliver(connect(settings))}
    assert "includes changes up to 2" in errors["immr-2"] and "ends at 1" in errors["immr-2"]
    index(connect(settings), version(settings, 2), items(settings.home))
    assert {each.version_id: each.error for each in catalogue.deliver(connect(settings))}["immr-2"] == ""
    assert "blue" not in titles(settings, 2)


def test_an_item_both_changed_and_deleted_is_refused(settings: Settings, tmp_path: Path) -> None:
    changed = write(tmp_path / "changed.parquet", [blue(settings)])
    (tmp_path / "gone.csv").write_text("item_id\nred\nblue\n")
    with pytest.raises(ContractError, match="blue is both changed and deleted"):
        catalogue.record_changes(connect(settings), changed, tmp_path / "gone.csv")
    assert catalogue.outbox(connect(settings)).latest() == 0


def test_a_version_indexed_later_includes_earlier_changes(settings: Settings) -> None:
    catalogue.change(connect(settings), [blue(settings)], ["green"])
    report = index(connect(settings), version(settings, 3), items(settings.home))
    assert (report.points, report.sequence) == (2, 2)
    assert set(titles(settings, 3)) == {"red", "blue"}
    assert {each.version_id: each.waiting for each in catalogue.status(connect(settings))} == {
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
        _, sequence = catalogue.current(connect(server), export)
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


def test_gc_keeps_the_rollback_target(settings: Settings) -> None:
    begun = changes.begin(("immr-2", "http://a"), {"challenger": ("immr-1", "http://b")}, 0.5, NOON)
    save(changes.promote(begun, NOON), settings.experiment_file)
    assert catalogue.collect_garbage(connect(settings), keep=0, dry_run=True)["immr-2"] == "live, kept"


def test_gc_keeps_a_version_that_waits(settings: Settings) -> None:
    waiting = Queue().add(WaitingVersion("immr-2", "immr-search:immr-2", 0.5, NOON))
    save_queue(waiting, settings.queue_file)
    assert catalogue.collect_garbage(connect(settings), keep=0)["immr-2"] == "waits in the queue, kept"
    assert "immr-2" in connect(settings).index.versions()


def test_gc_keeps_live_versions_and_the_newest(settings: Settings) -> None:
    index(connect(settings), version(settings, 3), items(settings.home))
    assert catalogue.collect_garbage(connect(settings), keep=1, dry_run=True) == {
        "immr-3": "one of the 1 newest, kept",
        "immr-2": "would be deleted",
        "immr-1": "live, kept",
    }
    with closing(connect(settings).index.open("immr-2", RECIPE.embedding_dim, PREPROCESSING)):
        assert catalogue.collect_garbage(connect(settings), keep=1)["immr-2"] == "in use by a process, kept"
    save(Experiment("e", "salt", (Variant(CHAMPION, "http://x", "immr-2", 1.0),)), settings.experiment_file)
    assert catalogue.collect_garbage(connect(settings), keep=0) == {
        "immr-3": "deleted",
        "immr-2": "live, kept",
        "immr-1": "live, kept",
    }
    settings.experiment_file.unlink()
    done = CliRunner(env=settings.environment()).invoke(app, ["index", "gc", "--keep", "0"])
    assert (done.exit_code, "immr-2" in done.output) == (0, True)
    assert connect(settings).index.versions() == ["immr-1"]


def test_a_changed_item_keeps_the_class_that_governance_gave_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    governed = [dataclasses.replace(item, attributes={CLASS: "7"}) for item in items(settings.home)]
    monkeypatch.setattr(catalogue.govern, "training_set_of", lambda parts, version: Governed(governed))
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


def govern_here(settings: Settings) -> None:
    """Write the versions' training set to this home."""
    folder = settings.work_dir / "training-sets" / "here"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"hash": "m"}')
    columns = ("item_id", "title", "description", "category", "image", "price", "updated_at")
    rows = [
        {name: getattr(each, name) for name in columns} | {"class_id": 0} for each in items(settings.home)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")


def test_an_unknown_item_is_named_when_it_is_deleted(settings: Settings) -> None:
    parts = connect(settings)
    assert catalogue.unknown(parts, ["nowhere"]) == []  # the training set is elsewhere: it may have the item
    govern_here(settings)
    assert catalogue.unknown(parts, ["red", "nowhere"]) == ["nowhere"]
    for nothing in ("nowhere", "red"):  # red is deleted by then
        done = CliRunner(env=settings.environment()).invoke(
            app, ["items", "delete", "red", nothing, "--json"]
        )
        assert done.exit_code == 0
        assert done.stderr.count("is not in the catalogue") == (1 if nothing == "nowhere" else 2)
        assert f"{nothing} is not in the catalogue" in done.stderr


def test_deletes_of_unknown_items_do_not_count_as_deletes(settings: Settings, tmp_path: Path) -> None:
    parts = connect(settings)
    govern_here(settings)
    (tmp_path / "gone.csv").write_text("item_id\nred\nnowhere\n")
    written = catalogue.record_changes(parts, None, tmp_path / "gone.csv")
    assert (written.deleted, written.unknown) == (1, ["nowhere"])
    assert catalogue.outbox(parts).last_of("nowhere") is not None  # a version in the making may have it


def test_an_item_with_an_unusable_picture_is_rejected_by_name_and_its_document_stays(
    settings: Settings, tmp_path: Path
) -> None:
    before = items(settings.home)
    missing = dataclasses.replace(before[0], title="no picture", image=str(tmp_path / "gone.png"))
    (tmp_path / "broken.png").write_bytes(b"<html>Not here</html>")
    broken = dataclasses.replace(before[1], title="no picture either", image=str(tmp_path / "broken.png"))
    file = write(tmp_path / "new.parquet", [missing, broken, blue(settings)])
    done = CliRunner(env=settings.environment()).invoke(app, ["items", "upsert", str(file), "--json"])
    assert done.exit_code == 0
    assert "recorded 1 of 3 items" in done.stderr
    assert f"rejected 1 item: image cannot be read (red: {missing.image})" in done.stderr
    assert "rejected 1 item: image cannot be decoded" in done.stderr and "(green)" in done.stderr
    assert titles(settings, 1) == {"red": "a red thing", "green": "a green thing", "blue": "a blue thing"}
    with pytest.raises(ContractError, match=r"its only row cannot be used.*image cannot be read"):
        catalogue.upsert(connect(settings), write(tmp_path / "one.parquet", [missing]))
