"""Govern: the same data and recipe are governed once, and a copy never replaces something else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from immr import recipes
from immr.data.validation.tables import AdmittedTables, admit
from immr.datasets import synthetic
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.errors import CapacityError, ContractError, DataError, RecipeError
from immr.governance.governance_recipe import GovernanceRecipe
from immr.loop.govern import govern
from immr.machine import capacity
from immr.registry.reports import published
from immr.settings import Settings
from immr.wiring import Parts, connect

RECIPE = replace(
    recipes.by_name("smoke"), governance=GovernanceRecipe(clean_labels=False, check_images=False)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    pictures = synthetic.SyntheticRecipe(items=6, train_photos=8, val_photos=1, side_px=32)
    simulate(synthetic.load(pictures, root / "cache"), root / "data", SimulationRecipe())
    return root / "data"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return connect(Settings(home=tmp_path / "home"))


def test_the_same_data_and_recipe_are_governed_once(parts: Parts, data: Path) -> None:
    first = govern(parts, data, RECIPE)
    made = (first.folder / "manifest.json").stat().st_mtime_ns
    again = govern(parts, data, RECIPE)
    assert again.folder == first.folder
    assert (again.folder / "manifest.json").stat().st_mtime_ns == made
    other = replace(RECIPE, governance=replace(RECIPE.governance, group_items=False))
    assert govern(parts, data, other).folder != first.folder


def test_a_size_that_the_encoder_cannot_take_is_refused_before_the_work(parts: Parts, data: Path) -> None:
    with pytest.raises(RecipeError, match="image_size_px is 60"):
        govern(parts, data, replace(RECIPE, model=replace(RECIPE.model, image_size_px=60)))
    assert not (parts.settings.work_dir / "training-sets").exists()


def test_a_copy_replaces_an_earlier_training_set_and_nothing_else(
    parts: Parts, data: Path, tmp_path: Path
) -> None:
    copy = govern(parts, data, RECIPE, tmp_path / "out")
    assert copy.folder == tmp_path / "out"
    assert govern(parts, data, RECIPE, tmp_path / "out").hash == copy.hash
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear-ann.txt").write_text("hello")
    with pytest.raises(DataError, match="letters"):
        govern(parts, data, RECIPE, tmp_path / "letters")
    assert (tmp_path / "letters" / "dear-ann.txt").read_text() == "hello"


def test_the_report_is_published(parts: Parts, data: Path) -> None:
    training_set = govern(parts, data, RECIPE)
    (report,) = published(parts.settings.home)
    assert (report["kind"], report["recipe"]) == ("governance", "smoke")
    assert report["sentence"] == (
        f"{len(training_set.queries)} training photos in {training_set.class_count} classes"
    )


def test_data_that_break_the_contract_are_refused(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ContractError, match="items"):
        govern(parts, tmp_path / "empty", RECIPE)
    assert published(parts.settings.home) == []


def test_data_that_do_not_fit_are_refused_before_anything_is_read(
    parts: Parts, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capacity, "free_disk", lambda folder: 0)
    with pytest.raises(CapacityError, match=r"govern of 6 items, 48 photos .* needs about .* GiB of disk"):
        govern(parts, data, RECIPE)
    tolerant = connect(parts.settings.model_copy(update={"too_large": "warn"}))
    assert govern(tolerant, data, RECIPE).class_count
    assert "0.0 GiB are free" in caplog.text


def test_tables_that_change_while_they_are_read_are_refused(
    parts: Parts, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were kept as the training set of the tables before, which a later run then reused."""
    changing = tmp_path / "changing"
    shutil.copytree(data, changing)
    items = changing / "items.parquet"

    def admitted(*arguments: Any) -> AdmittedTables:
        found = admit(*arguments)
        items.write_bytes(items.read_bytes() + b" ")
        return found

    monkeypatch.setattr("immr.governance.govern.admit", admitted)
    with pytest.raises(DataError, match="changed while they were read: run again"):
        govern(parts, changing, RECIPE)
    assert not list((parts.settings.work_dir / "training-sets").glob("*/manifest.json"))


def test_a_misspelt_slice_of_the_gate_is_refused(parts: Parts, data: Path, tmp_path: Path) -> None:
    """It was ignored, so the gate judged the slice by the margin for all slices."""
    gate = replace(RECIPE.gate, slice_margins={"Drinsk": -0.05})
    with pytest.raises(RecipeError, match=r"'Drinsk'.*head, middle, tail, unseen"):
        govern(parts, data, replace(RECIPE, gate=gate), tmp_path / "out")
    assert not (tmp_path / "out").exists()
