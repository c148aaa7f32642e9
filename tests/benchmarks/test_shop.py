"""The rendered shop fits the data contract, its log has the biases it claims, and a process is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.shop import __main__ as shop
from benchmarks.shop import index_filler, known_features
from benchmarks.shop.loop import small_recipe
from benchmarks.shop.pictures import Thing, write_catalogue_picture, write_photo
from benchmarks.shop.process_usage import run
from benchmarks.shop.tables import BOT_QUERIES, Size, write, write_events
from immr.data.pictures.picture_files import load
from immr.data.validation.tables import admit
from immr.model.features.image_features import ImageFeatures
from immr.model.features.text_features import TextFeatures, document_text
from immr.storage.fingerprint import of_file
from immr.types import Item

SIZE = Size(items=60, queries=4_000, impressions=40_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables without their pictures."""
    made = tmp_path_factory.mktemp("shop") / "shop"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.shop.tables._draw", lambda *_: None)
        write(SIZE, made)
    return made


def test_all_rows_fit_the_contract(folder: Path, tmp_path: Path) -> None:
    counts = admit(folder, tmp_path).tables
    assert {name: table.valid for name, table in counts.items()} == {
        "items": 60,
        "queries": 4_000,
        "impressions": pytest.approx(40_000, rel=0.1),  # an item is shown once in an answer
    }
    assert not any(table.rejected for table in counts.values())


def test_clicks_are_skewed_biased_by_position_and_partly_by_bots(folder: Path) -> None:
    truth = pq.read_table(folder / "truth.parquet")["item_id"].to_numpy()
    asked = np.sort(np.unique(truth, return_counts=True)[1])[::-1]
    assert asked[:6].sum() > 0.4 * len(truth)  # a tenth of the items
    shown = pq.read_table(folder / "impressions.parquet").to_pandas()
    rate = shown.groupby("position")["clicked"].mean()
    assert rate[1] > 1.5 * rate[3] > 1.5 * rate[6]
    users = pq.read_table(folder / "queries.parquet").to_pandas()["user_id"]
    assert (users[users.str.startswith("bot-")].value_counts() == BOT_QUERIES).all()


def test_the_log_can_be_read_out_as_a_test(folder: Path, tmp_path: Path) -> None:
    write_events(folder, tmp_path / "events")
    searches = pq.read_table(tmp_path / "events" / "searches.parquet")
    assert searches.num_rows == SIZE.queries
    assert set(searches["variant"].to_pylist()) == {"champion", "challenger"}


def test_photos_show_the_thing_and_differ(tmp_path: Path) -> None:
    thing, rng = Thing.of(0, 7), np.random.default_rng(0)
    write_catalogue_picture(thing, tmp_path / "item.jpg")
    for name in ("one", "other"):
        write_photo(thing, tmp_path / f"{name}.jpg", rng)
    item, one, other = (
        np.asarray(load(str(tmp_path / f"{name}.jpg")), float) for name in ("item", "one", "other")
    )
    assert item.shape == one.shape == (128, 128, 3)
    assert (item[0, 0] > 250).all() and np.abs(one - other).mean() > 5
    assert Thing.of(0, 7) == thing != Thing.of(0, 8)


def test_only_some_pictures_are_drawn_and_all_differ(tmp_path: Path) -> None:
    write(Size(items=5, queries=7, impressions=7), tmp_path, drawn=2)
    for pictures, count in (("catalogue", 5), ("photos", 7)):
        files = [tmp_path / pictures / f"{number}.jpg" for number in range(count)]
        assert len({file.read_bytes() for file in files}) == count
        assert load(str(files[-1])).size == (128, 128)


def test_copies_of_items_are_near_their_original() -> None:
    rows_ND = np.eye(3, 16, dtype=np.float32)
    copies_MD = index_filler._copies(rows_ND, 8, seed=0)
    assert (copies_MD[:3] == rows_ND).all()
    assert np.linalg.norm(copies_MD, axis=1) == pytest.approx(1)
    assert (copies_MD @ rows_ND.T).argmax(axis=1).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_process_is_measured_and_its_failure_ends_the_run(tmp_path: Path) -> None:
    used = run(["-c", "import time; block = b'x' * 200_000_000; time.sleep(0.5)"], {}, tmp_path / "log")
    assert 0.15 < used.own_gib <= used.peak_gib < 1 and used.seconds >= 0.5
    with pytest.raises(SystemExit, match="exited with 3"):
        run(["-c", "raise SystemExit(3)"], {}, tmp_path / "log")


def test_the_growth_exponent_is_the_slope_between_sizes() -> None:
    found = {size: {"cpu_seconds_by_verb": {"govern": 3e-3 * size, "index": 10.0}} for size in (1_000, 4_000)}
    assert shop._exponent(found, "govern") == pytest.approx(1)
    assert shop._exponent(found, "index") == pytest.approx(0)
    assert 0 < shop._exponent(found, "total") < 1
    assert shop._exponent({1_000: found[1_000]}, "total") is None


def test_known_features_are_those_of_the_pictures_and_texts(tmp_path: Path) -> None:
    recipe = small_recipe()
    write(Size(items=30, queries=40, impressions=200), tmp_path, drawn=4)
    known_features.fill(tmp_path, tmp_path / "cache", recipe)
    images = ImageFeatures(recipe.model, tmp_path / "cache")
    truth = [int(each[1:]) for each in pq.read_table(tmp_path / "truth.parquet")["item_id"].to_pylist()]
    pictures = {
        name: images.read([of_file(tmp_path / name / f"{number}.jpg") for number in range(count)], ["fit"])
        for name, count in (("catalogue", 30), ("photos", 40))
    }
    items_NF, photos_QF = (rows.in_view(0).float().numpy() for rows in pictures.values())
    assert (np.argmax(photos_QF @ items_NF.T, axis=1) == truth).mean() > 0.9
    [row] = pq.read_table(tmp_path / "items.parquet").slice(7, 1).to_pylist()
    text = document_text(Item(**{name: row[name] for name in Item.__dataclass_fields__ if name in row}))
    assert TextFeatures(recipe.model, tmp_path / "cache").read([text]).longest == known_features.TOKENS
