"""Rank: a real encoder and click log; the registry is a stand-in, and document towers have tests of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from immr import recipes
from immr.data.training_set import TrainingSet
from immr.errors import RankingError, RegistryError
from immr.evaluation.matches.rule import MATCH_RULE
from immr.events.query_photos import PhotoStore
from immr.loop.evaluate import GATE_PASSED
from immr.loop.experiment import running_test
from immr.loop.rank import RANKER, RANKER_OF, personal_in_use, rank, rank_if_possible
from immr.model import documents
from immr.model.query_encoder import OnnxQueryEncoder
from immr.ranking.ranker_recipe import RankerRecipe
from immr.registry.logged_models import Origin
from immr.search.personal_signals import Personal
from immr.search.ranker import Ranker
from immr.search.ranking import RankingRecipe
from immr.search.trees import Trees
from immr.settings import Settings
from immr.types import Click, FloatArray, Impression, Item, ModelVersion, SearchRecord
from immr.wiring import Parts
from tests.support import ranking_log, tiny_version

RECIPE = replace(
    recipes.by_name("smoke"), ranker=RankerRecipe(min_leaf_clicks=10, min_clicks=150, rounds=200, trees=50)
)
PHOTOS = 40


class Runs:
    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.ended: list[bool] = []

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, key: str) -> str:
        return f"run-{key[:4]}"

    def log_metrics(self, run_id: str, values: Mapping[str, float]) -> None:
        self.metrics |= values

    def finish(self, run_id: str, failed: bool = False) -> None:
        self.ended.append(failed)

    def finish_of_reused(self, run_id: str) -> None:
        """The run of the version with this ranker has finished."""


class Registry:
    """Keeps a copy of each version's files."""

    def __init__(self, folder: Path) -> None:
        self.runs = Runs()
        self.attachments: dict[tuple[str, str], str] = {}
        self.about = ""
        self._folder = folder
        self._known = {"key": tiny_version.version(1)}
        self._tags: dict[str, dict[str, str]] = {"immr-1": {"gate": "passed before", GATE_PASSED: "yes"}}
        self.files = {"immr-1": tiny_version.write_files(folder / "immr-1")}

    def find(self, key: str) -> ModelVersion | None:
        return self._known.get(key)

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        return self.files[version.id]

    def register(self, folder: Path, key: str, run_id: str, origin: Origin, **about: Any) -> ModelVersion:
        self.about = origin.about
        if key in self._known:
            return self._known[key]
        made = ModelVersion("immr", len(self._known) + 1, key, run_id, **about)
        self.files[made.id] = folder.rename(self._folder / made.id)
        folder.mkdir()
        self._known[key] = made
        self._tags[made.id] = {}
        return made

    @contextmanager
    def attached(self, version: ModelVersion, name: str) -> Iterator[Path | None]:
        file = self._folder / f"{version.id}-{name}"
        yield file if file.is_file() else None

    def attach(self, version: ModelVersion, file: Path) -> None:
        self.attachments[version.id, file.name.removeprefix("immr-1-")] = file.read_text()

    def tag(self, version: ModelVersion, name: str, value: str) -> None:
        self._tags[version.id][name] = value

    def add(self, version: ModelVersion, folder: Path, tags: dict[str, str]) -> None:
        self._known[version.id] = version
        self._tags[version.id], self.files[version.id] = tags, folder

    def versions(self) -> list[ModelVersion]:
        return [*self._known.values()]

    def tags(self, version: ModelVersion) -> dict[str, str]:
        return self._tags[version.id]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A click log, its catalogue and its photos."""
    folder = tmp_path_factory.mktemp("shop")
    encoder = OnnxQueryEncoder(tiny_version.write_files(folder / "version"))
    rng = np.random.default_rng(0)
    photos = {}
    for number in range(PHOTOS):
        picture = Image.new("RGB", (40, 40), tuple(rng.integers(0, 256, 3).tolist()))
        picture.save(folder / f"{number}.png")
        photos[str(folder / f"{number}.png")] = encoder.encode([picture])[0]
    ranking_log.write(folder, queries=4000, users=500, photos=photos)
    rows = [{**asdict(item), "attributes": json.dumps(item.attributes)} for item in ranking_log.items()]
    pq.write_table(pa.Table.from_pylist(rows).drop_columns("stock"), folder / "items.parquet")
    return folder


@pytest.fixture
def training_set(shop: Path, tmp_path: Path) -> TrainingSet:
    folder = tmp_path / "set"
    folder.mkdir()
    items = pq.read_table(shop / "items.parquet")
    pq.write_table(items.append_column("class_id", pa.array(range(len(items)))), folder / "items.parquet")
    (folder / "manifest.json").write_text(json.dumps({"hash": "a" * 64}))
    return TrainingSet(folder)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    def encode(
        folder: Path, items: Sequence[Item], cache_dir: Path, **_: object
    ) -> tuple[FloatArray, np.ndarray]:
        return ranking_log.embeddings(len(items), 2), np.ones(len(items), dtype=bool)

    monkeypatch.setattr(documents, "encode_each", encode)
    return Parts.of(Settings(home=tmp_path / "home"), registry=Registry(tmp_path))


def test_a_ranker_that_passes_becomes_part_of_a_new_version(
    parts: Parts, shop: Path, training_set: TrainingSet, tmp_path: Path
) -> None:
    base = tiny_version.version(1)
    for name in (MATCH_RULE, recipes.KEPT):
        (tmp_path / f"immr-1-{name}").write_text(name)
    ranked = rank(parts, base, training_set, RECIPE, shop)
    assert ranked.passed, ranked.sentence
    assert ranked.version.id == "immr-2"
    registry: Any = parts.registry
    tags = registry.tags(ranked.version)
    assert (tags[RANKER_OF], tags[RANKER]) == ("immr-1", ranked.sentence)
    assert (tags["gate"], tags[GATE_PASSED]) == ("passed before", "yes")
    assert registry.attachments == {("immr-2", name): name for name in (MATCH_RULE, recipes.KEPT)}
    made, former = (registry.files[name] for name in ("immr-2", "immr-1"))
    assert (made / "query_encoder.onnx").read_bytes() == (former / "query_encoder.onnx").read_bytes()
    ranker = Ranker.read(made)
    assert ranker is not None
    assert ranker.attributes == {"brand": "keyword"}
    assert Ranker.read(former) is None
    assert registry.runs.metrics["examined.1"] == 1
    assert registry.runs.ended == [False]
    assert registry.about == f"The towers of immr-1 with a learned ranker. {ranked.sentence}"
    again = rank(parts, base, training_set, RECIPE, shop)
    assert (again.version, again.sentence) == (ranked.version, ranked.sentence)
    assert registry.runs.ended == [False]


def test_a_version_that_was_left_half_registered_is_completed(
    parts: Parts, shop: Path, training_set: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_version.version(1)
    registry: Any = parts.registry
    with monkeypatch.context() as broken:
        broken.setattr(Registry, "tag", Mock(side_effect=RegistryError("MLflow does not answer")))
        with pytest.raises(RegistryError, match="does not answer"):
            rank(parts, base, training_set, RECIPE, shop)
    assert registry.runs.ended == [True], "its run does not stay open"
    ranked = rank(parts, base, training_set, RECIPE, shop)
    assert (ranked.version.id, registry.tags(ranked.version)[RANKER_OF]) == ("immr-2", "immr-1")
    assert registry.runs.ended == [True, False]


def test_a_personal_recipe_adds_a_verdict_and_changes_nothing_for_strangers(
    parts: Parts, shop: Path, training_set: TrainingSet
) -> None:
    personal = replace(RECIPE, ranker=replace(RECIPE.ranker, personal=True))
    made = [rank(parts, tiny_version.version(1), training_set, recipe, shop) for recipe in (RECIPE, personal)]
    assert "personal" not in made[0].sentence
    assert "It is not personal: on " in made[1].sentence  # these shoppers all want the same
    registry: Any = parts.registry
    rankers = [Ranker.read(registry.files[each.version.id]) for each in made]
    assert rankers[0] == rankers[1]
    assert "personal.difference.all" in registry.runs.metrics


def test_a_personal_version_in_use_is_found(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """In use: one that waits, for example."""
    registry: Any = parts.registry
    trees = Trees([])
    rankers = {2: Personal(0.1, trees), 3: None, 4: Personal(0.1, trees)}
    for number, personal in rankers.items():
        folder = parts.settings.home / f"immr-{number}"
        folder.mkdir(parents=True)
        Ranker({}, RankingRecipe(), 1.0, trees, personal).write(folder)
        registry.add(tiny_version.version(number), folder, {RANKER: "its sentence"})
    monkeypatch.setattr(running_test, "live_versions", lambda parts: {"immr-1", "immr-2", "immr-3"})
    assert personal_in_use(parts) == ["immr-2"]


def test_a_ranker_that_does_not_pass_leaves_the_version(
    parts: Parts, shop: Path, training_set: TrainingSet, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    shown = pq.read_table(shop / "impressions.parquet")
    position = shown["position"].to_numpy()
    clicked = rng.random(len(shown)) < 0.4 * ranking_log.EXAMINED_K[position - 1]
    index = shown.column_names.index("clicked")
    (tmp_path / "random").mkdir()
    for name in ("items", "queries"):
        (tmp_path / "random" / f"{name}.parquet").symlink_to(shop / f"{name}.parquet")
    pq.write_table(
        shown.set_column(index, "clicked", pa.array(clicked)), tmp_path / "random" / "impressions.parquet"
    )
    ranked = rank(parts, tiny_version.version(1), training_set, RECIPE, tmp_path / "random")
    assert (ranked.passed, ranked.version.id) == (False, "immr-1")
    assert "does not pass" in ranked.sentence


def test_a_log_that_is_too_small_is_refused_or_leaves_the_version(
    parts: Parts, shop: Path, training_set: TrainingSet
) -> None:
    strict = replace(RECIPE, ranker=RankerRecipe(min_clicks=1_000_000))
    with pytest.raises(RankingError, match="needed: 1000000"):
        rank(parts, tiny_version.version(1), training_set, strict, shop)
    registry: Any = parts.registry
    assert registry.runs.ended == [True]
    version = tiny_version.version(1)
    kept = rank_if_possible(version, lambda: rank(parts, version, training_set, strict, shop))
    assert (kept.version.id, kept.passed) == ("immr-1", False)
    assert kept.sentence.startswith("No ranker: the log has")


def test_without_data_the_event_log_is_the_click_log(
    parts: Parts, shop: Path, training_set: TrainingSet
) -> None:
    now = datetime.now(UTC)
    photo = (shop / "0.png").read_bytes()
    for number in range(5):
        query_id = f"q{number}"
        search = SearchRecord(query_id, f"u{number}", now, "champion", "immr-1", 5.0, 2)
        shown = [
            Impression(query_id, f"i{place}", place + 1, search.user_id, "champion", "immr-1", now)
            for place in range(2)
        ]
        parts.events.record_search(search, shown)
        parts.events.record_clicks([Click(f"c{number}", "click", query_id, "i1", now)])
        if number:
            PhotoStore(parts.settings.photos_dir).keep(query_id, photo)
    version = tiny_version.version(1)
    kept = rank_if_possible(version, lambda: rank(parts, version, training_set, RECIPE))
    assert kept.sentence.startswith("No ranker: the log has 4 clicks")
    parts.close()
