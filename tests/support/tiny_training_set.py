"""A training set written by hand: six classes of coloured pictures, one document each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from immr.data.training_set import TrainingSet
from immr.model.model_recipe import ModelRecipe
from immr.storage import fingerprint
from immr.train.train_recipe import TrainRecipe

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 40, 200),
    "yellow": (220, 210, 30),
    "violet": (150, 30, 180),
    "white": (235, 235, 235),
}
MODEL = ModelRecipe(image_size_px=64, dim=16, plain_dim=8, concepts=4, max_tokens=16)
TRAIN = TrainRecipe(
    processes=1,
    epochs=4,
    least_steps=0,
    batch_size=8,
    views=2,
    checkpoint_every_steps=8,
    checkpoint_every_s=0.0,
)


def write(folder: Path, photos_per_class: int = 6, unseen: frozenset[int] = frozenset()) -> TrainingSet:
    """Photos `q00…`, judgements `j00…`, items `item-<colour>`; the last item has no picture."""
    rng = np.random.default_rng(0)
    items, queries, judgements = [], [], []
    when = datetime(2024, 1, 1, tzinfo=UTC)
    for number, (name, colour) in enumerate(COLOURS.items()):
        picture = _picture(folder / f"icon-{name}.png", colour, rng)
        items.append(
            {
                "item_id": f"item-{number}-{name}",
                "title": f"A {name} thing",
                "description": f"It is {name} all over",
                "category": f"Things/{name.title()}",
                "image": "" if name == "white" else picture,
                "price": 1.0 + number,
                "updated_at": when,
                "class_id": number,
                "unseen": number in unseen,
            }
        )
        for photo in range(0 if number in unseen else photos_per_class):
            image = _picture(folder / f"photo-{name}-{photo}.jpg", colour, rng)
            queries.append(
                {
                    "query_id": f"q{number}{photo}",
                    "user_id": f"u{photo}",
                    "ts": when,
                    "image": image,
                    "class_id": number,
                    "weight": 1.0,
                }
            )
        judgements.append(
            {
                "query_id": f"j{number}",
                "image": _picture(folder / f"judged-{name}.jpg", colour, rng),
                "item_id": f"item-{number}-{name}",
                "class_id": number,
            }
        )
    for table, rows in (("items", items), ("queries", queries), ("judgements", judgements)):
        for row in rows:
            row["image_sha256"] = (
                fingerprint.of_bytes(Path(row["image"]).read_bytes()) if row["image"] else ""
            )
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{table}.parquet")
    (folder / "manifest.json").write_text(json.dumps({"hash": "tiny"}))
    return TrainingSet(folder)


def without_hashes(training_set: TrainingSet) -> None:
    """Make its tables those of an older release, without the hashes of pictures."""
    for table in ("items", "queries", "judgements"):
        file = training_set.folder / f"{table}.parquet"
        pq.write_table(pq.read_table(file).drop("image_sha256"), file)


def _picture(path: Path, colour: tuple[int, int, int], rng: np.random.Generator) -> str:
    noise = rng.normal(0, 12, (80, 72, 3))
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return str(path)
