import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_limits

from immr.data.training_set import TrainingSet
from immr.datasets import synthetic
from immr.datasets.simulation import simulate
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.errors import ContractError, RecipeError
from immr.governance.govern import govern
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.splits import periods
from immr.governance.splits.held_out import AFTER_TRAINING
from tests.governance.colours import Colours

PICTURES = synthetic.SyntheticRecipe(items=20, train_photos=15, val_photos=2, side_px=48)
SHOPPERS = SimulationRecipe(broken_rows=8)
CLICKS_ONLY = GovernanceRecipe(clean_labels=False)
EVERYTHING = GovernanceRecipe(balance_classes=True, max_photos_per_class=13, unseen_class_share=0.1)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 queries, with invalid rows and broken photos."""
    root = tmp_path_factory.mktemp("log")
    simulate(synthetic.load(PICTURES, root / "cache"), root / "log", SHOPPERS)
    return root / "log"


@pytest.fixture(scope="module")
def twin_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 queries; of the 20 items five have a second offer."""
    root = tmp_path_factory.mktemp("twins")
    shoppers = SimulationRecipe(twin_items=0.25, queries_per_photo=3, broken_rows=8)
    simulate(synthetic.load(PICTURES, root / "cache"), root / "log", shoppers)
    return root / "log"


@pytest.fixture(scope="module")
def governed(log: Path) -> TrainingSet:
    return govern(log, log.parent / "set", CLICKS_ONLY)


def with_truth(training_set: TrainingSet, log: Path) -> pd.DataFrame:
    truth = pq.read_table(log / "truth.parquet").rename_columns(["query_id", "truth"]).to_pandas()
    queries = pq.read_table(training_set.folder / "queries.parquet").to_pandas().merge(truth, on="query_id")
    return queries.assign(right=queries.item_id == queries.truth)


def step_of(training_set: TrainingSet, name: str, table: str = "queries") -> dict[str, Any]:
    (step,) = (
        step for step in training_set.manifest["steps"] if (step["name"], step["table"]) == (name, table)
    )
    return dict(step)


def test_the_result_is_a_training_set(governed: TrainingSet) -> None:
    assert len(governed.items) == governed.class_count == 20
    assert governed.item_classes == list(range(20))
    assert len(governed.judgements) == 40
    assert {photo.class_id for photo in governed.queries} <= set(range(20))
    assert all(0.5 < photo.weight <= 1 for photo in governed.queries)
    class_of = dict(zip([item.item_id for item in governed.items], governed.item_classes, strict=True))
    assert all(class_of[str(photo.item_id)] == photo.class_id for photo in governed.judgements)
    assert not {photo.image for photo in governed.judgements} & {photo.image for photo in governed.queries}
    assert [photo.query_id for photo in governed.queries] == sorted(
        photo.query_id for photo in governed.queries
    )


def test_labels_are_more_precise_than_clicks_and_few_are_lost(governed: TrainingSet, log: Path) -> None:
    queries = with_truth(governed, log)
    clicks = pq.read_table(log / "impressions.parquet").to_pandas().query("clicked")
    truth = pq.read_table(log / "truth.parquet").rename_columns(["query_id", "truth"]).to_pandas()
    clicks = clicks.merge(truth, on="query_id")
    assert queries.right.mean() > (clicks.item_id == clicks.truth).mean() + 0.02
    assert len(queries) > 0.85 * clicks.query_id.nunique()


def test_every_row_is_accounted_for(governed: TrainingSet) -> None:
    steps = governed.manifest["steps"]
    for step in steps:
        assert step["rows_in"] == step["rows_out"] + sum(step["dropped"].values())
    after: dict[str, int] = {}
    for step in steps:
        assert step["rows_in"] == after.get(step["table"], step["rows_in"])
        after[step["table"]] = step["rows_out"]
    outputs = governed.manifest["outputs"]
    assert {name: outputs[name]["rows"] for name in outputs} == {
        "items": after["items"],
        "queries": after["queries"],
        "judgements": after["judgements"],
    }
    refused = pq.read_table(governed.folder / "rejected" / "images.parquet").to_pandas()
    assert refused.set_index("id").reason.to_dict() == {
        "broken-cut": "image cannot be decoded",
        "broken-gone": "image cannot be read",
        "broken-text": "image cannot be decoded",
    }
    assert pq.read_metadata(governed.folder / "rejected" / "impressions.parquet").num_rows == 8


def test_the_hash_does_not_depend_on_time_and_place(governed: TrainingSet, tmp_path: Path) -> None:
    moved = synthetic.load(PICTURES, tmp_path / "elsewhere")
    simulate(moved, tmp_path / "log", SHOPPERS)
    again = govern(tmp_path / "log", tmp_path / "set", CLICKS_ONLY)
    assert again.queries[0].image != governed.queries[0].image
    assert again.hash == governed.hash


@pytest.mark.slow
def test_the_hash_does_not_depend_on_threads(twin_log: Path, tmp_path: Path) -> None:
    """Neither on the engine's threads nor on those of matrix products in label cleaning."""
    hashes = set()
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            url = f"duckdb://?threads={threads}"
            hashes.add(govern(twin_log, tmp_path / str(threads), EVERYTHING, url, Colours()).hash)
    assert len(hashes) == 1


@pytest.mark.slow
def test_spark_gives_the_same_result(twin_log: Path, tmp_path: Path, spark_url: str) -> None:
    here = govern(twin_log, tmp_path / "duckdb", EVERYTHING, "duckdb://", Colours())
    there = govern(twin_log, tmp_path / "spark", EVERYTHING, spark_url, Colours())
    assert here.class_count < len(here.items)
    for name in ("items", "queries", "judgements"):
        tables = [pq.read_table(one.folder / f"{name}.parquet") for one in (here, there)]
        assert tables[0].equals(tables[1])
    assert here.hash == there.hash


def test_the_hash_depends_on_recipe_and_data(governed: TrainingSet, log: Path, tmp_path: Path) -> None:
    other_recipe = govern(log, tmp_path / "a", replace(CLICKS_ONLY, order_weight=4.0))
    less = tmp_path / "less"
    less.mkdir()
    for path in log.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(
            table.slice(0, len(table) - 1) if path.stem == "judgements" else table, less / path.name
        )
    other_data = govern(less, tmp_path / "b", CLICKS_ONLY)
    assert len({governed.hash, other_recipe.hash, other_data.hash}) == 3


def without_judgements(log: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in ("items", "queries", "impressions"):
        (folder / f"{name}.parquet").write_bytes((log / f"{name}.parquet").read_bytes())
    return folder


@pytest.mark.parametrize("embedder", [None, Colours()])
def test_without_judgements_whole_users_are_held_out_before_cleaning(
    log: Path, tmp_path: Path, embedder: Colours | None
) -> None:
    data = without_judgements(log, tmp_path / "data")
    recipe = replace(CLICKS_ONLY, held_out_share=0.2, clean_labels=embedder is not None)
    training_set = govern(data, tmp_path / "set", recipe, embedder=embedder)
    held, kept = training_set.judgements, training_set.queries
    assert all(photo.user_id for photo in held), "intervals are by user"
    assert 0 < len(held) < len(kept)
    assert not {photo.image for photo in held} & {photo.image for photo in kept}
    queries = (
        pq.read_table(data / "queries.parquet").to_pandas().drop_duplicates("query_id").set_index("query_id")
    )
    users = [set(queries.loc[[photo.query_id for photo in side]].user_id) for side in (held, kept)]
    assert not users[0] & users[1]
    names = [step["name"] for step in training_set.manifest["steps"] if step["table"] == "queries"]
    assert names.index("split") < names.index("appearance")
    assert "counts wrong clicks against the model" in step_of(training_set, "split")["note"]
    assert (training_set.manifest["wrong_judgements"] is None) == (embedder is None)
    assert training_set.manifest["held_out"] == {"days_after_training": None}
    assert "on the same days as training photos" in step_of(training_set, "split")["note"]


def test_held_out_photos_of_a_longer_log_come_after_training(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods, "FEWEST", 10)
    data = without_judgements(log, tmp_path / "data")
    training_set = govern(data, tmp_path / "set", CLICKS_ONLY)
    queries = (
        pq.read_table(data / "queries.parquet").to_pandas().drop_duplicates("query_id").set_index("query_id")
    )
    held, kept = (
        queries.loc[[photo.query_id for photo in side]]
        for side in (training_set.judgements, training_set.queries)
    )
    first, last = training_set.manifest["held_out"]["days_after_training"]
    assert 1 <= first <= last
    assert (held.ts.min() - kept.ts.max()).days >= 1
    assert not set(held.user_id) & set(kept.user_id)
    split = step_of(training_set, "split")
    assert f"{first:.1f} to {last:.1f} days after the last training photo" in split["note"]
    assert split["dropped"][AFTER_TRAINING] > 0


def test_the_report_says_that_photos_of_unseen_classes_are_from_all_days(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods, "FEWEST", 10)
    data = without_judgements(log, tmp_path / "data")
    training_set = govern(data, tmp_path / "set", replace(CLICKS_ONLY, unseen_class_share=0.1))
    assert training_set.manifest["held_out"]["days_after_training"]
    assert "photos of unseen classes are from all days" in step_of(training_set, "split")["note"]


def test_a_judged_photo_is_not_in_training(governed: TrainingSet, log: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in log.glob("*.parquet"):
        (data / path.name).write_bytes(path.read_bytes())
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(Path(governed.queries[0].image).read_bytes())
    judgements = pq.read_table(log / "judgements.parquet").to_pandas()
    judgements.loc[0, "image"] = str(copy)
    judgements.to_parquet(data / "judgements.parquet")
    training_set = govern(data, tmp_path / "set", CLICKS_ONLY)
    assert governed.queries[0].query_id not in {photo.query_id for photo in training_set.queries}
    assert step_of(training_set, "split")["dropped"] == {"same photo as a judgement": 1}


def test_images_are_hashed_but_not_refused_when_the_step_is_off(log: Path, tmp_path: Path) -> None:
    training_set = govern(log, tmp_path / "set", replace(CLICKS_ONLY, check_images=False, group_items=False))
    assert not (tmp_path / "set" / "rejected" / "images.parquet").exists()
    assert pq.read_table(tmp_path / "set" / "items.parquet")["image_sha256"].to_pylist()[0]
    assert training_set.class_count == 20


def test_the_report_is_one_small_file_with_pictures(governed: TrainingSet) -> None:
    page = (governed.folder / "report.html").read_text()
    assert governed.hash in page
    assert page.count("data:image/jpeg;base64,") > 30
    assert "clicks disagree about the item" in page and "price is negative" in page and "broken-cut" in page
    assert "prefers-color-scheme: dark" in page
    assert "http://" not in page and "https://" not in page
    assert len(page) < 2_000_000


def test_a_failed_run_leaves_nothing_behind(log: Path, tmp_path: Path) -> None:
    recipe = replace(CLICKS_ONLY, min_image_side_px=500)
    with pytest.raises(ContractError, match="no items are left after the step images"):
        govern(log, tmp_path / "set", recipe)
    assert not list(tmp_path.iterdir())


def test_appearance_decides_between_clicked_items(log: Path, governed: TrainingSet, tmp_path: Path) -> None:
    seen = govern(log, tmp_path / "set", GovernanceRecipe(), embedder=Colours())
    clicks_only, both = with_truth(governed, log), with_truth(seen, log)
    assert both.right.mean() > clicks_only.right.mean()
    assert both.right.sum() > clicks_only.right.sum()
    steps = {step["name"]: step for step in seen.manifest["steps"] if step["table"] == "queries"}
    assert steps["appearance"]["rows_in"] == steps["appearance"]["rows_out"] + sum(
        steps["appearance"]["dropped"].values()
    )
    assert (
        "colours" in steps["appearance"]["note"]
        and "moved to another clicked item" in steps["appearance"]["note"]
    )
    class_of = dict(zip([item.item_id for item in seen.items], seen.item_classes, strict=True))
    assert (both.item_id.map(class_of) == both.class_id).all()
    page = (tmp_path / "set" / "report.html").read_text()
    dropped = steps["appearance"]["dropped"]
    assert "moved to another clicked item" in page
    assert dropped and all(reason in page for reason in dropped)
    assert govern(log, tmp_path / "again", GovernanceRecipe(), embedder=Colours()).hash == seen.hash
    assert seen.manifest["wrong_judgements"] is None, "people judged this log"
    assert seen.manifest["held_out"] is None


def test_offers_of_one_product_become_one_class_in_the_report(twin_log: Path, tmp_path: Path) -> None:
    training_set = govern(twin_log, tmp_path / "set", CLICKS_ONLY)
    twins = pq.read_table(twin_log / "twins.parquet").to_pylist()
    class_of = dict(
        zip([item.item_id for item in training_set.items], training_set.item_classes, strict=True)
    )
    assert len(twins) == 5 and len(class_of) == 25 and training_set.class_count == 20
    assert all(class_of[row["item_id"]] == class_of[row["twin_of"]] for row in twins)
    page = (training_set.folder / "report.html").read_text()
    assert "several items, one class" in page and page.count("2 items") >= 5


def test_a_disabled_step_is_listed_and_drops_nothing(log: Path, tmp_path: Path) -> None:
    off = GovernanceRecipe(
        check_images=False,
        min_share=0.0,
        group_items=False,
        clean_labels=False,
        balance_classes=False,
    )
    training_set = govern(log, tmp_path / "set", off)
    for name in ("images", "edges", "classes", "appearance", "balance"):
        step = step_of(training_set, name, "items" if name == "classes" else "queries")
        assert step["note"] == "switched off"
        assert set(step["dropped"]) <= {"no click on a valid item"}


def test_cleaning_by_appearance_needs_an_embedder(log: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="pass an embedder, or turn it off"):
        govern(log, tmp_path / "set", GovernanceRecipe())


def test_head_classes_are_capped_and_tail_classes_weigh_more(
    governed: TrainingSet, log: Path, tmp_path: Path
) -> None:
    recipe = replace(CLICKS_ONLY, balance_classes=True, max_photos_per_class=13, balance_power=1.0)
    before = pq.read_table(governed.folder / "queries.parquet").to_pandas()
    after = pq.read_table(govern(log, tmp_path / "set", recipe).folder / "queries.parquet").to_pandas()
    sizes = before.class_id.value_counts()
    assert sizes.max() > 13 > sizes.min()
    assert (after.class_id.value_counts().sort_index() == sizes.clip(upper=13).sort_index()).all()
    factors = after.merge(before, on="query_id", suffixes=("", "_before"))
    factors = (factors.weight / factors.weight_before).groupby(factors.class_id).mean()
    assert (factors * sizes.clip(upper=13)).tolist() == pytest.approx([len(after) / 20] * 20)
    weakest_kept = after.groupby("class_id").query_id.agg(set)
    for class_id, group in before.groupby("class_id"):
        gone = group[~group.query_id.isin(weakest_kept[class_id])]
        kept = group[group.query_id.isin(weakest_kept[class_id])]
        assert gone.empty or gone.weight.max() <= kept.weight.min()


@pytest.mark.parametrize("judged", [True, False])
def test_unseen_classes_have_no_training_photo(log: Path, tmp_path: Path, judged: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in log.glob("*.parquet"):
        if judged or path.stem != "judgements":
            (data / path.name).write_bytes(path.read_bytes())
    training_set = govern(data, tmp_path / "set", replace(CLICKS_ONLY, unseen_class_share=0.2))
    unseen = training_set.unseen_classes
    assert len(unseen) == 4 and training_set.class_count == 20
    assert {photo.class_id for photo in training_set.queries} == set(range(20)) - unseen
    assert unseen <= {photo.class_id for photo in training_set.judgements}
    assert len(training_set.items) == 20
    assert any("unseen" in reason for reason in step_of(training_set, "split")["dropped"])
    ids = [photo.query_id for photo in training_set.judgements]
    assert len(ids) == len(set(ids))


def test_items_have_their_declared_attributes_and_class(log: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(log, shop)
    items = pq.read_table(shop / "items.parquet")
    brands = [["Nike", "Puma", None][row % 3] for row in range(len(items))]
    pq.write_table(items.append_column("brand", pa.array(brands)), shop / "items.parquet")
    (shop / "attributes.toml").write_text('brand = "keyword"')
    governed = govern(shop, tmp_path / "set", CLICKS_ONLY)
    # the first of several rows with one id is kept
    expected = dict(zip(items["item_id"].to_pylist()[::-1], brands[::-1], strict=True))
    for item, class_id in zip(governed.items, governed.item_classes, strict=True):
        brand = expected[item.item_id]
        assert item.attributes == {"class": str(class_id), **({"brand": brand} if brand else {})}
