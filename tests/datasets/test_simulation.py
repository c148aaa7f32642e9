from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from immr.data.validation.tables import admit
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.simulation import LOG_END, simulate
from immr.datasets.simulation_recipe import SimulationRecipe, category_noise, symmetric_noise
from immr.errors import RecipeError
from immr.types import Item

MADE = datetime(2024, 1, 1, tzinfo=UTC)


def labelled(items: int = 40, photos: int = 50) -> LabelledSet:
    """Paths only: nothing here opens a picture."""
    catalogue = [
        Item(f"i{n:03d}", f"Thing {n}", "A thing.", f"C{n % 5}", f"/i{n}.jpg", 1.0, MADE)
        for n in range(items)
    ]
    shots = [
        DatasetPhoto(f"/{split}-{n}-{p}.jpg", f"i{n:03d}", split)
        for split, count in (("train", photos), ("val", 2), ("test", 1))
        for n in range(items)
        for p in range(count)
    ]
    return LabelledSet("made", catalogue, shots)


def log(folder: Path) -> pd.DataFrame:
    truth = pq.read_table(folder / "truth.parquet").rename_columns(["query_id", "truth"])
    shown = pq.read_table(folder / "impressions.parquet").to_pandas().merge(truth.to_pandas(), on="query_id")
    return shown.assign(right=shown.item_id == shown.truth)


def test_it_meets_the_contract_without_the_test_split(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path / "log", SimulationRecipe())
    admission = admit(tmp_path / "log", tmp_path / "in")
    assert {name: counts.rejected for name, counts in admission.tables.items()} == {
        "items": {},
        "queries": {},
        "impressions": {},
        "judgements": {},
    }
    queries = pq.read_table(tmp_path / "log/queries.parquet").to_pandas()
    judged = pq.read_table(tmp_path / "log/judgements.parquet")["image"].to_pylist()
    assert len(queries) == queries.image.nunique() == 2000
    assert all(image.startswith("/train-") for image in queries.image)
    assert len(judged) == 80 and all(image.startswith("/val-") for image in judged)
    assert queries.ts.max() < LOG_END and queries.ts.min() >= LOG_END - timedelta(days=28)


def test_shoppers_behave_as_in_the_recipe(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, SimulationRecipe())
    shown = log(tmp_path)
    clicks = shown[shown.clicked]
    ends = shown.groupby("query_id").position.agg(["min", "max", "size"])
    assert (ends["min"] == 1).all() and (ends["max"] == ends["size"]).all() and ends["size"].max() == 8
    assert not shown.duplicated(["query_id", "item_id"]).any()
    assert 0.08 < 1 - clicks.right.mean() < 0.12
    assert clicks.query_id.nunique() / shown.query_id.nunique() > 0.95
    assert clicks.query_id.nunique() < shown.query_id.nunique()
    assert clicks.duplicated("query_id").any()
    assert clicks[clicks.right].ordered.mean() > 3 * clicks[~clicks.right].ordered.mean()
    wrong = shown[~shown.right].groupby("position").clicked.mean()
    assert wrong[1] > wrong[2] > wrong[6]


def test_wrong_clicks_can_stay_in_the_category(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, SimulationRecipe(wrong_clicks=0.4, wrong_in_category=True))
    shown = log(tmp_path)
    category = {item.item_id: item.category for item in labelled().items}
    clicks = shown[shown.clicked]
    assert 0.34 < 1 - clicks.right.mean() < 0.46
    assert (clicks.item_id.map(category) == clicks.truth.map(category)).all()


def test_symmetric_wrong_clicks_spread_evenly_over_all_other_items(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, replace(symmetric_noise(0.4), queries_per_photo=10))
    shown = log(tmp_path)
    clicks = shown[shown.clicked]
    assert 0.37 < 1 - clicks.right.mean() < 0.43
    wrong = clicks[~clicks.right].item_id.value_counts()
    assert len(wrong) == 40 and wrong.max() < 1.5 * wrong.min()
    category = {item.item_id: item.category for item in labelled().items}
    near = (clicks.item_id.map(category) == clicks.truth.map(category))[~clicks.right].mean()
    assert near == pytest.approx(7 / 39, abs=0.03)


def test_category_noise_stays_in_the_category(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, category_noise(0.4))
    shown = log(tmp_path)
    category = {item.item_id: item.category for item in labelled().items}
    assert 0.34 < 1 - shown[shown.clicked].right.mean() < 0.46
    assert (shown.item_id.map(category) == shown.truth.map(category)).all()


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_positions_are_examined_by_the_position_bias(tmp_path: Path, bias: float) -> None:
    """With one scan and no wrong clicks, the right item's click rate at p over that at 1 is p^-η."""
    alone = SimulationRecipe(
        wrong_clicks=0.0, position_bias=bias, scans=1, search_quality=0.0, queries_per_photo=10
    )
    simulate(labelled(), tmp_path, alone)
    shown = log(tmp_path)
    rate = shown[shown.right].groupby("position").clicked.mean()
    for place in (2, 4, 8):
        assert rate[place] / rate[1] == pytest.approx(place**-bias, abs=0.05)


def test_shown_items_follow_zipf(tmp_path: Path) -> None:
    skewed = SimulationRecipe(popularity_skew=1.2, within_category_share=0.0, present=0.0, shown=1)
    simulate(labelled(photos=400), tmp_path, skewed)
    counts = log(tmp_path).item_id.value_counts().to_numpy()
    slope = np.polyfit(np.log(np.arange(1, 41)), np.log(counts), 1)[0]
    assert slope == pytest.approx(-1.2, abs=0.15)


def test_twins_are_offers_of_one_product_that_shoppers_compare(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, SimulationRecipe(twin_items=0.25))
    twins = pq.read_table(tmp_path / "twins.parquet").to_pandas()
    items = pq.read_table(tmp_path / "items.parquet").to_pandas().set_index("item_id")
    assert len(twins) == 10 and len(items) == 50
    same = ["title", "category", "image"]
    offers, originals = items.loc[twins.item_id, same], items.loc[twins.twin_of, same]
    assert offers.to_numpy().tolist() == originals.to_numpy().tolist()
    shown = log(tmp_path).merge(
        twins.rename(columns={"item_id": "twin"}), left_on="truth", right_on="twin_of"
    )
    both = shown[(shown.item_id == shown.truth) | (shown.item_id == shown.twin)]
    clicks = both.groupby("query_id").clicked.agg(["size", "sum"])
    assert (clicks["size"] == 2).all()
    assert 0.75 < (clicks["sum"] == 2).sum() / (clicks["sum"] > 0).sum() < 0.95
    assert not admit(tmp_path, tmp_path / "in").tables["items"].rejected


def test_there_are_no_twins_by_default(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, SimulationRecipe())
    assert not pq.read_metadata(tmp_path / "twins.parquet").num_rows
    assert pq.read_metadata(tmp_path / "impressions.parquet").num_rows == len(log(tmp_path))


def test_there_may_be_no_wrong_clicks(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, SimulationRecipe(wrong_clicks=0.0))
    shown = log(tmp_path)
    assert shown[shown.clicked].right.all()


def test_the_seed_determines_the_log(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(labelled(), tmp_path / name, SimulationRecipe(seed=seed))
    a, b, c = (pq.read_table(tmp_path / name / "impressions.parquet") for name in "abc")
    assert a.equals(b) and not a.equals(c)


def test_further_queries_are_for_popular_items_and_the_log_ends_now(tmp_path: Path) -> None:
    now = datetime(2025, 3, 4, 5, tzinfo=UTC)
    simulate(labelled(), tmp_path, SimulationRecipe(queries_per_photo=3, days=7), now)
    truth = pq.read_table(tmp_path / "truth.parquet").to_pandas().item_id.value_counts()
    assert truth.sum() == 6000
    assert truth.max() > 3 * truth.min()
    times = pq.read_table(tmp_path / "queries.parquet").to_pandas().ts
    assert now - timedelta(days=7) <= times.min() and times.max() < now


def test_a_catalogue_smaller_than_the_list_is_fine(tmp_path: Path) -> None:
    simulate(labelled(items=3), tmp_path, SimulationRecipe())
    assert log(tmp_path).groupby("query_id").size().max() <= 3


def test_all_broken_rows_are_rejected(tmp_path: Path) -> None:
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(bytes(4000))
    whole = labelled()
    whole = replace(whole, photos=[photo._replace(image=str(picture)) for photo in whole.photos])
    simulate(whole, tmp_path / "log", SimulationRecipe(broken_rows=12))
    admission = admit(tmp_path / "log", tmp_path / "in")
    for name in ("items", "queries", "impressions"):
        assert sum(admission.tables[name].rejected.values()) == 12
    assert admission.tables["queries"].valid == 2003
    images = pq.read_table(admission.path("queries"))["image"].to_pylist()[-3:]
    assert [Path(image).is_file() for image in images] == [True, True, False]


def test_a_million_impressions_take_seconds(tmp_path: Path) -> None:
    simulate(labelled(), tmp_path, SimulationRecipe(queries_per_photo=65))
    assert pq.read_metadata(tmp_path / "impressions.parquet").num_rows > 1_000_000


def test_impossible_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        simulate(labelled(), tmp_path / "log", SimulationRecipe(shown=0))
    assert not (tmp_path / "log").exists()
