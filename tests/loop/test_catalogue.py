"""Catalogue changes are recorded whole, and by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.errors import ContractError
from immr.loop import catalogue
from immr.loop.items import delivery
from immr.settings import Settings
from immr.wiring import connect
from tests.support.catalogue_home import (
    blue,
    items,
    prepared,
    run,
    settings,
    titles,
    write,
)

__all__ = ["prepared", "settings"]


def test_deleting_twice_is_harmless(settings: Settings) -> None:
    run(settings, "delete", "red", "never-there")
    run(settings, "delete", "red")
    assert [titles(settings, number) for number in (1, 2)] == [{"green": "a green thing"}] * 2
    assert [(each["delivered"], each["latest"], each["searched"]) for each in run(settings, "status")] == [
        (3, 3, 3)
    ] * 2


def test_an_item_both_changed_and_deleted_is_refused(settings: Settings, tmp_path: Path) -> None:
    changed = write(tmp_path / "changed.parquet", [blue(settings)])
    (tmp_path / "gone.csv").write_text("item_id\nred\nblue\n")
    with pytest.raises(ContractError, match="blue is both changed and deleted"):
        catalogue.record_changes(connect(settings), changed, tmp_path / "gone.csv")
    assert delivery.outbox(connect(settings)).latest() == 0


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
    assert delivery.outbox(parts).last_of("nowhere") is not None  # a version in the making may have it


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
