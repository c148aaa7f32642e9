"""Start: an empty home and a catalogue become a search, without a click and without training."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from immr import recipes
from immr.data.sources.shop import Shop
from immr.data.validation.tables import TableCounts, admit_table
from immr.errors import DataError, DeployError, RecipeError
from immr.experiment import changes
from immr.experiment.file import save
from immr.loop.start import Started, start
from immr.model.query_encoder import OnnxQueryEncoder
from immr.settings import Settings
from immr.types import ModelVersion
from immr.wiring import Parts, connect
from tests.support import tiny_version

ZERO_SHOT = recipes.by_name("zero_shot")
SMALL = dataclasses.replace(ZERO_SHOT, model=dataclasses.replace(ZERO_SHOT.model, image_size_px=64, dim=16))
HEADER = "Art-Nr;Name;Gruppe;Bild;Preis"
MAPPING = """
[items.columns]
item_id = "Art-Nr"
title = "Name"
description = { value = "" }
category = { column = "Gruppe", separator = ">" }
image = "Bild"
price = { column = "Preis", decimal = "," }
updated_at = { value = "2025-01-01" }
"""


def shop(folder: Path) -> Shop:
    """Twelve textured pictures in three groups; one file is not a picture."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    rows = [HEADER]
    for number in range(12):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
        rows.append(f"{number:03};Teil {number};Haus > Art {number % 3};{number}.png;1.0{number:02},50 €")
    (folder / "broken.png").write_bytes(b"no picture")
    rows += ["900;Kaputt;Haus;broken.png;1,00 €", "901;Umsonst;Haus;0.png;gratis"]
    return catalogue(folder, "artikel.csv", rows)


def catalogue(folder: Path, name: str, rows: list[str]) -> Shop:
    (folder / name).write_text("\n".join(rows), encoding="utf-8")
    (folder / "map.toml").write_text(MAPPING)
    return Shop.catalogue(folder / name, folder / "map.toml")


def changed(folder: Path) -> Shop:
    """Item 003 is gone, 004 has another title, the rows of 005 and 006 are damaged, and 012 is new."""
    rows = (folder / "artikel.csv").read_text(encoding="utf-8").splitlines()[:13]
    new = {
        "003": [],
        "004": [rows[5].replace("Teil 4", "Umbenannt")],
        "005": [rows[6].replace("5.png", "broken.png")],
        "006": [rows[7].replace("1.006,50 €", "gratis")],
    }
    kept = [line for row in rows for line in new.get(row[:3], [row])]
    Image.effect_mandelbrot((96, 96), (-2, -1.5, 1, 1.5), 60).save(folder / "12.png")
    return catalogue(folder, "changed.csv", [*kept, "012;Neu;Haus;12.png;1,00 €"])


class Files:
    """A registry whose champion is `immr-1`, with the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def role(self, name: str) -> ModelVersion | None:
        return tiny_version.version(1) if name == "champion" else None

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        return self._folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return connect(Settings(home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop(folder)
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> Shop:
    return Shop.catalogue(folder / "artikel.csv", folder / "map.toml")


@pytest.fixture(scope="module")
def started(parts: Parts, first: Shop) -> Started:
    return start(parts, first, SMALL)


def search(parts: Parts, picture: Path, k: int = 1) -> list[tuple[str, str]]:
    """Ids and titles of the items that look most like a picture."""
    champion = parts.registry.get("champion")
    files = parts.registry.fetch(champion, parts.settings.cache_dir)
    query_D = OnnxQueryEncoder(files).encode([Image.open(picture).convert("RGB")])[0]
    with closing(parts.index.open(champion.id, champion.dim, champion.preprocessing_hash)) as collection:
        return [(hit.item_id, hit.title) for hit in collection.search(query_D, k=k)]


def test_the_version_is_champion_and_its_items_are_found(
    parts: Parts, folder: Path, started: Started
) -> None:
    assert parts.registry.get("champion").id == started.version_id
    assert recipes.of_version(parts.registry, parts.registry.get("champion")) == SMALL
    assert (started.items, started.changed, started.deleted, started.rejected) == (12, 12, 0, 2)
    assert search(parts, folder / "7.png") == [("007", "Teil 7")]
    assert [(each.version_id, each.bento) for each in parts.deployer.current()] == [
        (started.version_id, started.bento)
    ]


def test_what_was_rejected_is_kept_with_its_reason(started: Started) -> None:
    rejected = started.training_set / "rejected"
    [row] = pq.read_table(rejected / "items.parquet").to_pylist()
    assert (row["Art-Nr"], row["reason"]) == ("901", "price is not a number")
    [picture] = pq.read_table(rejected / "images.parquet").to_pylist()
    assert (picture["id"], picture["reason"]) == ("900", "image cannot be decoded")


def test_starting_again_changes_nothing(parts: Parts, first: Shop, started: Started) -> None:
    start(parts, first, SMALL)  # whatever catalogue another test left
    again = start(parts, first, SMALL)
    assert again == dataclasses.replace(started, changed=0)
    assert len(parts.registry.versions()) == 1


def test_a_changed_catalogue_is_delivered_and_a_running_test_keeps_its_versions(
    parts: Parts, folder: Path, first: Shop, started: Started
) -> None:
    start(parts, first, SMALL)
    champion, challenger = ((version, "http://127.0.0.1:1") for version in (started.version_id, "immr-9"))
    experiment = changes.begin(champion, {"challenger": challenger}, 0.5, datetime.now(UTC))
    save(experiment, parts.settings.experiment_file)
    before = parts.settings.experiment_file.read_bytes(), parts.deployer.current()
    again = start(parts, changed(folder), SMALL)
    assert (again.version_id, again.bento) == (started.version_id, started.bento)
    assert (again.items, again.changed, again.deleted, again.waiting) == (12, 2, 1, 0)
    assert (parts.settings.experiment_file.read_bytes(), parts.deployer.current()) == before
    titles = dict(search(parts, folder / "7.png", k=20))
    assert set(titles) == {f"{number:03}" for number in range(13)} - {"003"}  # damaged rows change nothing
    assert titles["004"] == "Umbenannt" and titles["006"] == "Teil 6"
    assert search(parts, folder / "12.png") == [("012", "Neu")]
    assert start(parts, changed(folder), SMALL).changed == 0


def test_a_champion_of_another_recipe_is_left_alone(tmp_path: Path) -> None:
    files = Files(tiny_version.write_files(tmp_path / "version"))
    parts = Parts.of(Settings(home=tmp_path / "home"), registry=files)
    with pytest.raises(
        DeployError, match=r"immr-1 \(recipe tiny\) is already the champion.*immr items upsert"
    ):
        start(parts, shop(tmp_path / "shop"), SMALL)


def test_a_fusion_with_weights_has_to_be_trained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has to be trained"):
        start(Parts.of(Settings(home=tmp_path)), shop(tmp_path / "shop"), recipes.by_name("smoke"))


def test_a_catalogue_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = shop(tmp_path)

    def admitted(*arguments: Any) -> TableCounts:
        found = admit_table(*arguments)
        with (tmp_path / "artikel.csv").open("a") as file:
            file.write("\n")
        return found

    monkeypatch.setattr("immr.governance.catalogue.admit_table", admitted)
    with pytest.raises(DataError, match="changed while they were read: run again"):
        start(Parts.of(Settings(home=tmp_path / "home")), given, SMALL)
