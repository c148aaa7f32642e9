"""How well each kind of query finds items, and what it costs: photo, words, both, a box, groups and facets.

    IMMR_HOME=.immr/demo python -m benchmarks.queries --json queries.json    # the home's champion
    python -m benchmarks.queries --untrained                                 # without a home
    python -m benchmarks.queries --untrained --only regions --only ranking

Needs the data sets grocery and icons. `--untrained` searches with the plain part of embeddings, fitted to 120 photos
without labels: a version before its first training. The queries:

- words: the first words of an item's description, which is not indexed. The item is right.
- photo and words: each photo of the split with the last part of its category, such as "Apple".
- match: each photo with its item in the catalogue and without; photos of icons, and pictures of nothing.
- box: four photos of different items in one picture, the box around one of them, or the whole picture.
- regions: photos of both sets at random places of a picture; the regions that the service proposes (`regions.py`).
- latencies: of one search at a time in this process, without HTTP, in a larger catalogue (`latencies.py`). Texts are
  new, but for `repeated_text`; `grouped` is by category, `variants` by product.
- threads: searches per second with a thread for each core, against one thread.
- ranking: `benchmarks.ranking` in its first world, without a catalogue.

recall@10 and ndcg@10 count the exact item.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.queries.latencies import latencies, worker_scaling
from benchmarks.queries.matches import matches
from benchmarks.queries.regions import regions
from benchmarks.ranking import simulated_shops
from benchmarks.ranking.__main__ import try_out
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.datasets.named import load_dataset
from immr.evaluation.bootstrap import mean_estimates
from immr.index.qdrant import QdrantIndex
from immr.model.documents import encode_documents
from immr.model.encoders.by_name import preprocessing_of
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.model_card import TOWERS, Card
from immr.model.model_recipe import ModelRecipe
from immr.model.query_encoder import OnnxQueryEncoder
from immr.model.text_query_encoder import TextQueryEncoder, has_text_encoder
from immr.model.towers import Towers
from immr.search.pages import Answer, Wanted
from immr.search.ranking import RankingRecipe
from immr.search.searcher import Searcher
from immr.settings import Settings
from immr.train.export import export_query_encoder
from immr.types import Item, ModelVersion, Region
from immr.wiring import connect

PARTS = ("words", "boxes", "regions", "matches", "latencies", "threads", "ranking")
K = 10
FITTED_PHOTOS = 120
WORDS = 12
SCENES = 150
SIDE_PX = 400  # of a photo in a scene
CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
ROUNDS, CONFIDENCE = 2000, 0.95
LOG_QUERIES, FRESH_QUERIES = 20_000, 2_000  # of the simulated shop


def main(
    model: str = "champion",
    split: str = "val",
    untrained: Annotated[bool, typer.Option("--untrained", help="Search without a trained version.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Measure one of " + ", ".join(PARTS))] = None,
    json_file: JsonFile = None,
) -> None:
    """Recall and latency by kind of query, on grocery."""
    if unknown := set(only or []) - set(PARTS):
        raise typer.BadParameter(f"{sorted(unknown)}: choose from {', '.join(PARTS)}")
    settings = Settings()
    with tempfile.TemporaryDirectory(prefix="immr-queries-") as place:
        if untrained:
            folder = Path(place) / "version"
            labelled = load_dataset("grocery", settings.data_mirror, settings.cache_dir)
            version = write_untrained(folder, labelled, settings.cache_dir)
        else:
            registry = connect(settings).registry
            version = registry.get(model)
            folder = registry.fetch(version, settings.cache_dir)
        figures = measured(version, folder, split, only or PARTS, settings)
    table = Table("figure", "value", title=f"queries of {version.id} on grocery {split}")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)
    write_figures(json_file, figures)


def measured(
    version: ModelVersion, folder: Path, split: str, parts: Sequence[str], settings: Settings
) -> dict[str, float]:
    """The figures of some of `PARTS`."""
    labelled, others = (
        load_dataset(name, settings.data_mirror, settings.cache_dir) for name in ("grocery", "icons")
    )
    documents_ND = encode_documents(folder, labelled.items, settings.cache_dir)
    photos = labelled.split(split)
    with tempfile.TemporaryDirectory(prefix="immr-queries-") as place:
        index = QdrantIndex(f"edge://{place}/index")
        index.build(version, labelled.items, documents_ND)
        with closing(index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
            encoder = OnnxQueryEncoder(folder)
            texts = TextQueryEncoder(folder) if has_text_encoder(folder) else None
            searcher = Searcher(encoder, collection, None, RankingRecipe(), texts=texts)
            by_words = Searcher(encoder, collection, None, RankingRecipe())
            measures: dict[str, Callable[[], dict[str, float]]] = {
                "words": lambda: {
                    **words_alone({"text": searcher, "words": by_words}, labelled.items),
                    **words_beside_photos({"hybrid": searcher, "photo_words": by_words}, labelled, photos),
                },
                "boxes": lambda: boxes(searcher, photos),
                "regions": lambda: regions(version, folder, labelled, others, photos, settings.cache_dir),
                "matches": lambda: matches(folder, labelled, documents_ND, photos, others),
                "latencies": lambda: latencies(version, folder, labelled, documents_ND, photos),
                "threads": lambda: worker_scaling(folder, collection, photos),
                "ranking": ranking,
            }
            figures: dict[str, float] = {}
            for part in parts:
                figures |= measures[part]()
    return figures


def write_untrained(folder: Path, labelled: LabelledSet, cache_dir: Path) -> ModelVersion:
    """A version's folder whose learned part has hardly any weight."""
    recipe = ModelRecipe(fusion="image", plain_share=0.999)
    pictures = [item.image for item in labelled.items]
    photos = [photo.image for photo in labelled.split("train")]
    photos = photos[:: len(photos) // FITTED_PHOTOS]
    features = ImageFeatures(recipe, cache_dir)
    hashes = image_hashes([*pictures, *photos])
    features.compute(hashes, ["fit"], Share(threads=torch.get_num_threads()))
    photos_BF, pictures_BF = (
        features.read([hashes[uri] for uri in uris], ["fit"]).in_view(0).float()
        for uris in (photos, pictures)
    )
    towers = Towers(recipe).eval()
    towers.fit(photos_BF, pictures_BF)
    folder.mkdir()
    torch.save(towers.state_dict(), folder / TOWERS)
    card = Card("untrained", recipe, preprocessing_of(recipe), manifest_hash="none", key="none")
    card.write(folder)
    export_query_encoder(recipe, towers.query, folder, cache_dir)
    dim, preprocessing = recipe.embedding_dim, card.preprocessing.hash
    return ModelVersion("untrained", 0, "none", "none", dim, preprocessing, "none", "untrained")


def words_alone(searchers: Mapping[str, Searcher], items: Sequence[Item]) -> dict[str, float]:
    """Known-item search by a description: with the text tower, if the version has one, and by words alone."""
    described = [item for item in items if item.description]
    figures: dict[str, float] = {}
    for name, searcher in searchers.items():
        found = []
        for item in described:
            text = " ".join(item.description.split()[:WORDS])
            found.append(rank_of(searcher.search([], Wanted(K, text=text)), item.item_id) is not None)
        ids = [item.item_id for item in described]
        figures |= with_interval(f"{name}_recall_at_10", np.array(found, dtype=float), ids)
    return figures


def words_beside_photos(
    searchers: Mapping[str, Searcher], labelled: LabelledSet, photos: Sequence[DatasetPhoto]
) -> dict[str, float]:
    """ndcg@10 of photos alone, and of photos with words."""
    item_of = {item.item_id: item for item in labelled.items}
    gains: dict[str, list[float]] = {"dense": [], **{name: [] for name in searchers}}
    for photo in photos:
        content = Path(photo.image).read_bytes()
        text = item_of[photo.item_id].category.split("/")[-1].replace("-", " ")
        alone = next(iter(searchers.values())).search([content], Wanted(K))
        answers = {
            name: searcher.search([content], Wanted(K, text=text)) for name, searcher in searchers.items()
        }
        for kind, answer in {"dense": alone, **answers}.items():
            rank = rank_of(answer, photo.item_id)
            gains[kind].append(0.0 if rank is None else 1 / float(np.log2(1 + rank)))
    dense_Q, hybrid_Q = (np.array(gains[kind]) for kind in ("dense", "hybrid"))
    items = [photo.item_id for photo in photos]
    return {
        **{f"{kind}_ndcg": float(np.mean(each)) for kind, each in gains.items()},
        **with_interval("hybrid_minus_dense_ndcg", hybrid_Q - dense_Q, items),
    }


def boxes(searcher: Searcher, photos: Sequence[DatasetPhoto]) -> dict[str, float]:
    """recall@1 of one of four items in a picture: the whole picture, and the box around the item."""
    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {"whole": [], "box": []}
    wanted_items = []
    while len(wanted_items) < SCENES:
        chosen = [photos[row] for row in generator.choice(len(photos), len(CORNERS), replace=False)]
        if len({photo.item_id for photo in chosen}) < len(chosen):
            continue
        content = scene(chosen)
        place = int(generator.integers(len(CORNERS)))
        wanted_items.append(chosen[place].item_id)
        x, y = CORNERS[place]
        regions = {"whole": None, "box": Region(x / 2, y / 2, 0.5, 0.5)}
        for kind, region in regions.items():
            answer = searcher.search([content], Wanted(1), region)
            found[kind].append(float(answer.hits[0].item_id == chosen[place].item_id))
    gain_Q = np.array(found["box"]) - np.array(found["whole"])
    return {
        **{f"{kind}_recall_at_1": float(np.mean(each)) for kind, each in found.items()},
        **with_interval("box_recall_gain", gain_Q, wanted_items),
    }


def scene(photos: Sequence[DatasetPhoto]) -> bytes:
    """Four photos in the corners of one JPEG."""
    picture = Image.new("RGB", (2 * SIDE_PX, 2 * SIDE_PX))
    for photo, (x, y) in zip(photos, CORNERS, strict=True):
        with Image.open(photo.image) as image:
            part = ImageOps.fit(image.convert("RGB"), (SIDE_PX, SIDE_PX))
        picture.paste(part, (x * SIDE_PX, y * SIDE_PX))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    return content.getvalue()


def ranking() -> dict[str, float]:
    """The gain of a ranker learned from biased clicks over the hand-tuned weights, and its core time at p95."""
    found = try_out(simulated_shops.BIASED, seed=0, queries=LOG_QUERIES, fresh_queries=FRESH_QUERIES)
    keys = ("ltr_minus_hand_ndcg", "ltr_minus_hand_ndcg_low", "ltr_minus_hand_ndcg_high", "ltr_p95_ms")
    return {key: value for key in keys if isinstance(value := found[key], float)}


def rank_of(answer: Answer, item_id: str) -> int | None:
    """1-based; None if the item is not among the hits."""
    return next((rank for rank, hit in enumerate(answer.hits, 1) if hit.item_id == item_id), None)


def with_interval(name: str, values_Q: np.ndarray, clusters: Sequence[str]) -> dict[str, float]:
    """The mean and its 95 % interval, resampling items."""
    [estimate] = mean_estimates(values_Q[:, None], clusters, ROUNDS, CONFIDENCE, seed=0)
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


if __name__ == "__main__":
    typer.run(main)
