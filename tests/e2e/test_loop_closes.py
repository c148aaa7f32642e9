"""The loop closes: the next version trains on what shoppers did with the last one. Nothing is faked."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr import recipes
from immr.cli import app
from immr.data.contract import ITEMS
from immr.datasets.labelled_set import LabelledSet
from immr.datasets.synthetic import SyntheticRecipe
from immr.datasets.synthetic import load as load_synthetic
from immr.experiment.changes import begin
from immr.experiment.file import save
from immr.loop.govern import govern
from immr.loop.materialize import materialize
from immr.loop.train import train
from immr.settings import Settings
from immr.wiring import connect
from tests.support import tiny_version
from tests.support.in_process import served_gateway, served_version, wait_ready
from tests.support.shopper import click, wait_until_recorded

ITEMS_OF_SHOP, PHOTOS_OF_ITEM, USERS = 8, 8, 16


def shop_for_a_day(settings: Settings, labelled: LabelledSet) -> int:
    """A user searches with each photo and clicks the right item; one in ten clicks the first hit."""
    folder = tiny_version.write_packaged(settings.home / "immr-1", 1)
    tiny_version.build_index(settings, folder, list(labelled.items))
    dice = random.Random(0)
    photos = labelled.split("train")
    with served_version(settings, folder) as url:
        wait_ready(url)
        save(begin(("immr-1", url), {}, 0, datetime.now(UTC)), settings.experiment_file)
        with served_gateway(settings) as client:
            for number, photo in enumerate(photos):
                answer = client.post(
                    "/v1/search",
                    files={"image": Path(photo.image).read_bytes()},
                    data={"user_id": f"user-{number % USERS}", "k": str(ITEMS_OF_SHOP)},
                )
                hits = answer.json()["hits"]
                right = next(hit for hit in hits if hit["item_id"] == photo.item_id)
                clicked = hits[0] if dice.random() < 0.1 else right
                kind = "order" if dice.random() < 0.2 else "click"
                sent = client.post("/v1/events", json={"events": [click(clicked["click_token"], kind)]})
                assert sent.json()["accepted"] == 1, sent.text
    wait_until_recorded(settings, len(photos))
    return len(photos)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_event_log_becomes_the_next_version_and_its_features(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", keep_photos=True)
    labelled = load_synthetic(
        SyntheticRecipe(items=ITEMS_OF_SHOP, train_photos=PHOTOS_OF_ITEM, val_photos=2, side_px=64),
        settings.cache_dir,
    )
    searches = shop_for_a_day(settings, labelled)

    catalogue = tmp_path / "items.parquet"
    columns = {name: [getattr(item, name) for item in labelled.items] for name in ITEMS.columns.names}
    columns["images"] = [None] * len(labelled.items)
    pq.write_table(pa.table(columns, schema=ITEMS.columns), catalogue)
    clicks = tmp_path / "clicks"
    command = ["events", "export", "--out", str(clicks), "--items", str(catalogue)]
    done = CliRunner(env=settings.environment()).invoke(app, command)
    assert done.exit_code == 0, done.output
    assert pq.read_metadata(clicks / "queries.parquet").num_rows == searches

    recipe = recipes.with_processes(recipes.smoke(), 1)
    training_set = govern(connect(settings), clicks, recipe)
    items = [item.item_id for item in training_set.items]
    assert set(items) == {item.item_id for item in labelled.items}
    assert len(training_set.queries) > searches / 2  # the others are held out

    version = train(connect(settings), training_set, recipe)
    assert connect(settings).registry.get(version.id).manifest_hash == training_set.hash

    assert materialize(connect(settings), training_set, clicks).items == ITEMS_OF_SHOP
    features = connect(settings).features.read(items)
    assert sum(each.impressions_7d for each in features.values()) == searches * ITEMS_OF_SHOP
    assert sum(each.clicks_7d for each in features.values()) == searches
