"""Simulates a click log with known truth from any labelled data set. (ours)"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from immr.data.contract import IMPRESSIONS, ITEMS, JUDGEMENTS, QUERIES
from immr.data.pictures import additional_pictures
from immr.datasets import shoppers
from immr.datasets.broken_rows import with_broken_rows
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.shoppers import Bools, Catalogue, Ints
from immr.datasets.simulation_recipe import SimulationRecipe
from immr.storage.atomic import replace_folder_atomically
from immr.types import Item

LOG_END = datetime(2026, 1, 1, tzinfo=UTC)


def simulate(labelled: LabelledSet, out: Path, recipe: SimulationRecipe, now: datetime = LOG_END) -> None:
    """Write items, queries, impressions, judgements and the truth as Parquet tables; `out` appears whole.

    Queries come from the split `train`, judgements from `val`; `test` is kept out of both. `truth.parquet`
    (query_id, item_id) and `twins.parquet` (item_id, twin_of) are for tests and benchmarks only: governance and
    training must not read them.

    Args:
        labelled: the catalogue and the photos.
        out: the folder to write; an earlier log in it is replaced.
        recipe: how shoppers behave.
        now: end of the log, which starts `recipe.days` earlier.

    Raises:
        DatasetError: the data set has no split `train` or `val`.
        DataError: `out` contains something else.
    """
    rng = np.random.default_rng(recipe.seed)
    photos, judged = labelled.split("train"), labelled.split("val")
    twins = _twins(labelled, recipe)
    labelled = replace(labelled, items=[*labelled.items, *twins.values()])
    catalogue = shoppers.as_numbers(labelled.items, list(twins), recipe, rng)
    number = {item_id: index for index, item_id in enumerate(catalogue.item_ids.tolist())}
    right_of_photo = np.array([number[photo.item_id] for photo in photos])
    asked = shoppers.searched_photos(right_of_photo, catalogue, recipe, rng)
    right = right_of_photo[asked]
    shown_QP = shoppers.ranked_lists(right, catalogue, recipe, rng)
    clicked_QP, ordered_QP = shoppers.behaviour(shown_QP, right, catalogue, recipe, rng)

    query_ids = np.array([f"q{index:07d}" for index in range(len(asked))])
    users = np.array([f"u{user:05d}" for user in rng.integers(0, recipe.users, len(asked))])
    begin = now - timedelta(days=recipe.days)
    times = np.sort(rng.integers(0, recipe.days * 86_400_000_000, len(asked))) + _microseconds(begin)
    tables = {
        "items": _items_table(labelled, begin),
        "queries": pa.table(
            {
                "query_id": query_ids,
                "user_id": users,
                "ts": pa.array(times).cast(QUERIES.columns.field("ts").type),
                "image": pa.array([photo.image for photo in photos]).take(pa.array(asked)),
            },
            schema=QUERIES.columns,
        ),
        "impressions": _impressions_table(shown_QP, clicked_QP, ordered_QP, query_ids, times, catalogue),
        "judgements": _judgements_table(judged),
        "truth": pa.table({"query_id": query_ids, "item_id": catalogue.item_ids[right]}),
        "twins": pa.table(
            {"item_id": [twin.item_id for twin in twins.values()], "twin_of": list(twins)},
            schema=pa.schema({"item_id": pa.string(), "twin_of": pa.string()}),
        ),
    }
    with replace_folder_atomically(out, (*(f"{name}.parquet" for name in tables), "broken")) as aside:
        if recipe.broken_rows:
            tables = with_broken_rows(tables, recipe.broken_rows, aside, out.absolute())
        for name, table in tables.items():
            pq.write_table(table, aside / f"{name}.parquet")


def _twins(labelled: LabelledSet, recipe: SimulationRecipe) -> dict[str, Item]:
    """Second offers by item_id: the same picture and text at another price."""
    chance = np.random.default_rng(
        [recipe.seed, 1]
    )  # its own generator, so that twins do not change the rest of the log
    count = round(recipe.twin_items * len(labelled.items))
    chosen = sorted(chance.permutation(len(labelled.items))[:count].tolist())
    originals = [labelled.items[number] for number in chosen]
    return {
        item.item_id: replace(item, item_id=f"{item.item_id}-twin", price=round(item.price * 1.1, 2))
        for item in originals
    }


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _items_table(labelled: LabelledSet, loaded_at: datetime) -> pa.Table:
    columns = {name: [getattr(item, name) for item in labelled.items] for name in ITEMS.columns.names}
    columns["updated_at"] = [loaded_at] * len(labelled.items)
    columns[additional_pictures.COLUMN] = [additional_pictures.packed(item.images) for item in labelled.items]
    return pa.table(columns, schema=ITEMS.columns)


def _impressions_table(
    shown_QP: Ints,
    clicked_QP: Bools,
    ordered_QP: Bools,
    query_ids: npt.NDArray[np.str_],
    times: Ints,
    catalogue: Catalogue,
) -> pa.Table:
    query, place = np.nonzero(shown_QP >= 0)
    rows = len(query)
    return pa.table(
        {
            "query_id": pa.array(query_ids).take(pa.array(query)),
            "item_id": pa.array(catalogue.item_ids).take(pa.array(shown_QP[query, place])),
            "position": place + 1,
            "clicked": clicked_QP[query, place],
            "ordered": ordered_QP[query, place],
            "variant": pa.repeat("control", rows),
            "model_version": pa.repeat("former-search", rows),
            "ts": pa.array(times[query]).cast(IMPRESSIONS.columns.field("ts").type),
        },
        schema=IMPRESSIONS.columns,
    )


def _judgements_table(photos: list[DatasetPhoto]) -> pa.Table:
    return pa.table(
        {
            "query_id": [f"j{index:06d}" for index in range(len(photos))],
            "image": [photo.image for photo in photos],
            "item_id": [photo.item_id for photo in photos],
        },
        schema=JUDGEMENTS.columns,
    )
