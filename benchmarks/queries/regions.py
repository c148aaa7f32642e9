"""Do proposed regions find the things on a photo of several? Against the whole photo and the true boxes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.queries.scenes import Scene, scene
from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.evaluation.bootstrap import mean_estimates
from immr.model.documents import encode_pictures
from immr.search.evaluate_by_kind import searcher_of
from immr.search.pages import Wanted
from immr.search.ranking import RankingRecipe
from immr.search.searcher import Searcher
from immr.types import ModelVersion, Region

SCENES = 60
ICONS = 200
"""Items of icons in the catalogue, beside those of grocery."""
COVERED = 0.5
"""Intersection over union from which a proposal counts as the thing's."""
ROUNDS, CONFIDENCE = 2000, 0.95


def regions(
    version: ModelVersion,
    folder: Path,
    grocery: LabelledSet,
    icons: LabelledSet,
    grocery_photos: Sequence[DatasetPhoto],
    cache_dir: Path,
) -> dict[str, float]:
    """recall@1 of the things in scenes: by the whole photo, the proposal that overlaps most, and the true box.

    A shopper who taps on the thing chooses that proposal. The catalogue has grocery's items and some of icons'.

    Args:
        version: that searches.
        folder: its files.
        grocery: a catalogue.
        icons: another catalogue.
        grocery_photos: held out.
        cache_dir: of features.
    """
    chosen = set(list(dict.fromkeys(photo.item_id for photo in icons.split("val")))[::7][:ICONS])
    icon_photos = [photo for photo in icons.split("val") if photo.item_id in chosen]
    items = [*grocery.items, *(item for item in icons.items if item.item_id in chosen)]
    documents = encode_pictures(folder, items, cache_dir)
    with searcher_of(version, folder, items, documents, RankingRecipe()) as searcher:
        found, item_ids = of_things(searcher, grocery_photos, icon_photos)
    gain_Q = np.array(found["scene_proposed_recall_at_1"]) - np.array(found["scene_whole_recall_at_1"])
    [gain] = mean_estimates(gain_Q[:, None], item_ids, ROUNDS, CONFIDENCE, seed=0)
    return {
        **{name: float(np.mean(values)) for name, values in found.items() if name != "took_ms"},
        "proposed_recall_gain": gain.mean,
        "proposed_recall_gain_low": gain.low,
        "proposed_recall_gain_high": gain.high,
        "regions_p50_ms": float(np.median(found["took_ms"])),
    }


def of_things(
    searcher: Searcher, grocery: Sequence[DatasetPhoto], icons: Sequence[DatasetPhoto]
) -> tuple[dict[str, list[float]], list[str]]:
    """For each thing in each scene, 0 or 1 by name, and its item; and the time to propose regions for each scene."""
    found: dict[str, list[float]] = {}
    item_ids = []
    for each in scenes(grocery, icons):
        start = time.perf_counter()
        proposals = [proposal.region for proposal in searcher.regions(each.content)]
        found.setdefault("took_ms", []).append(1000 * (time.perf_counter() - start))
        whole = _first(searcher, each, None)
        for thing in each.things:
            # a scene without proposals is searched as a whole
            best = max(
                proposals, key=lambda region, box=thing.box: overlap(region, box), default=Region(0, 0, 1, 1)
            )
            figures = {
                "scene_whole_recall_at_1": whole == thing.item_id,
                "scene_proposed_recall_at_1": _first(searcher, each, best) == thing.item_id,
                "scene_true_box_recall_at_1": _first(searcher, each, thing.box) == thing.item_id,
                "scene_things_covered": overlap(best, thing.box) >= COVERED,
            }
            for name, value in figures.items():
                found.setdefault(name, []).append(float(value))
            item_ids.append(thing.item_id)
    return found, item_ids


def scenes(grocery: Sequence[DatasetPhoto], icons: Sequence[DatasetPhoto]) -> Iterator[Scene]:
    """Scenes of two to four photos, by turns of grocery and icons."""
    rng = np.random.default_rng(0)
    for _ in range(SCENES):
        one, other, behind = (grocery[row] for row in rng.choice(len(grocery), 3, replace=False))
        icon, second = (icons[row] for row in rng.choice(len(icons), 2, replace=False))
        chosen = [("grocery", one), ("icons", icon), ("grocery", other), ("icons", second)]
        yield scene(chosen[: int(rng.integers(2, 5))], behind.image, rng)


def overlap(one: Region, other: Region) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0.0) * max(height, 0.0)
    return common / (one.width * one.height + other.width * other.height - common)


def _first(searcher: Searcher, of: Scene, region: Region | None) -> str:
    return searcher.search([of.content], Wanted(1), region).hits[0].item_id
