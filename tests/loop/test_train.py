"""Train: one version per key, a run that fails is marked, and the cause is never hidden. Fakes for the parts."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from immr import recipes
from immr.data.training_set import TrainingSet
from immr.errors import CapacityError, RecipeError, RegistryError, TrainingError
from immr.launch.launcher import TrainingJob
from immr.loop.train import train
from immr.machine import capacity
from immr.model.encoders.by_name import preprocessing_of
from immr.model.model_card import Card
from immr.registry.logged_models import Origin
from immr.settings import Settings
from immr.train.inputs.features import training_arrays
from immr.train.job import TrainJob
from immr.train.world import World
from immr.types import ModelVersion
from immr.wiring import Parts
from tests.support.tiny_training_set import MODEL, TRAIN

RECIPE = dataclasses.replace(recipes.by_name("smoke"), model=MODEL, train=TRAIN)


class FakeRuns:
    def __init__(self) -> None:
        self.ended: list[tuple[str, bool]] = []
        self.reused: list[str] = []
        self.away = False

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str], *, key: str) -> str:
        return f"run-of-{key[:4]}"

    def finish(self, run_id: str, failed: bool = False) -> None:
        if self.away:
            raise RegistryError("MLflow does not answer")
        self.ended.append((run_id, failed))

    def finish_of_reused(self, run_id: str) -> None:
        self.reused.append(run_id)


class FakeRegistry:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = FakeRuns()
        self.known: dict[str, ModelVersion] = {}
        self.origins: list[Origin] = []
        self.files_lost = False

    def find(self, key: str) -> ModelVersion | None:
        return self.known.get(key)

    def fetch(self, version: ModelVersion, cache_dir: Path) -> Path:
        if self.files_lost:
            raise RegistryError("the files are gone")
        return cache_dir

    def register(self, folder: Path, key: str, run_id: str, origin: Origin, **about: Any) -> ModelVersion:
        self.origins.append(origin)
        self.known[key] = ModelVersion("immr", len(self.known) + 1, key, run_id, **about)
        return self.known[key]

    def restore(self, version: ModelVersion, folder: Path) -> ModelVersion:
        self.files_lost = False
        return version

    def attach(self, version: ModelVersion, file: Path) -> None:
        kept = self.folder / version.id / file.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(file.read_bytes())

    @contextmanager
    def attached(self, version: ModelVersion, name: str) -> Iterator[Path | None]:
        kept = self.folder / version.id / name
        yield kept if kept.is_file() else None


class FakeLauncher:
    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []
        self.fails = False

    def run(self, job: TrainingJob) -> None:
        self.jobs.append(job)
        if self.fails:
            raise TrainingError("a worker failed")
        trained = TrainJob.read(job.job_file)
        trained.out.mkdir(parents=True, exist_ok=True)
        Card("smoke", MODEL, preprocessing_of(MODEL), manifest_hash="tiny", key=trained.key).write(
            trained.out
        )


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts.of(
        Settings(home=tmp_path / "home"),
        registry=FakeRegistry(tmp_path / "attached"),
        launcher=FakeLauncher(),
    )


def test_the_same_data_and_recipe_are_trained_once(parts: Parts, training_set: TrainingSet) -> None:
    first = train(parts, training_set, RECIPE)
    assert train(parts, training_set, RECIPE) == first
    assert len(parts.launcher.jobs) == 1  # type: ignore[attr-defined]
    assert parts.registry.runs.reused == [first.run_id]  # type: ignore[attr-defined]
    other = dataclasses.replace(RECIPE, train=dataclasses.replace(TRAIN, epochs=5))
    assert train(parts, training_set, other).number == 2


def test_features_that_are_in_the_cache_need_no_disk_again(
    parts: Parts, training_set: TrainingSet, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop that trains every night was refused for the features of all its items."""
    monkeypatch.setattr(capacity, "free_disk", lambda folder: 20_000)  # one item has no picture
    with pytest.raises(CapacityError, match=r"train of 36 photos and 6 items .* GiB of disk"):
        train(parts, training_set, RECIPE)
    training_arrays(training_set, MODEL, TRAIN.views, cache_dir, World())
    parts.settings.cache_dir.parent.mkdir(parents=True, exist_ok=True)
    parts.settings.cache_dir.symlink_to(cache_dir)
    assert train(parts, training_set, RECIPE).number == 1


def test_a_job_knows_where_pictures_are_kept(training_set: TrainingSet, tmp_path: Path) -> None:
    for url in ("", "s3://bucket/pixels"):
        settings = Settings(home=tmp_path / f"home{len(url)}", pixels_url=url)
        own = Parts.of(settings, registry=FakeRegistry(tmp_path), launcher=FakeLauncher())
        train(own, training_set, RECIPE)
        assert TrainJob.read(own.launcher.jobs[0].job_file).pixels_url == url  # type: ignore[attr-defined]


def test_a_recipe_of_ones_own_is_kept_with_its_version(parts: Parts, training_set: TrainingSet) -> None:
    own = dataclasses.replace(RECIPE, name="mine", gate=dataclasses.replace(RECIPE.gate, margin=-0.3))
    version = train(parts, training_set, own)
    version = dataclasses.replace(version, recipe="mine")
    assert recipes.of_version(parts.registry, version) == own
    stricter = dataclasses.replace(own, gate=dataclasses.replace(own.gate, margin=-0.1))
    assert train(parts, training_set, stricter).number == version.number
    assert recipes.of_version(parts.registry, version) == stricter


def test_a_built_in_recipe_replaces_one_of_the_same_training_that_was_kept(
    parts: Parts, training_set: TrainingSet
) -> None:
    built_in = recipes.by_name("smoke")
    own = dataclasses.replace(built_in, gate=dataclasses.replace(built_in.gate, margin=-0.3))
    version = dataclasses.replace(train(parts, training_set, own), recipe="smoke")
    assert recipes.of_version(parts.registry, version) == own
    assert train(parts, training_set, built_in).number == version.number
    assert recipes.of_version(parts.registry, version) == built_in


def test_a_kept_recipe_with_a_setting_of_another_release_has_to_be_replaced(
    parts: Parts, tmp_path: Path
) -> None:
    version = ModelVersion("immr", 9, "key", "run", 8, "p", "m", "mine")
    (tmp_path / recipes.KEPT).write_text("[train]\nremoved = 1\n")
    parts.registry.attach(version, tmp_path / recipes.KEPT)
    with pytest.raises(RecipeError, match=r"kept with immr-9 .*train\.removed.*name one with --recipe"):
        recipes.of_version(parts.registry, version)
    recipes.keep_with(parts.registry, version, recipes.by_name("smoke"))
    assert recipes.of_version(parts.registry, version) == recipes.by_name("smoke")


def test_a_recipe_that_was_not_kept_has_to_be_named(parts: Parts, training_set: TrainingSet) -> None:
    built_in = recipes.by_name("smoke")
    version = ModelVersion("immr", 9, "key", "run", 8, "p", "m", "smoke")
    assert recipes.of_version(parts.registry, version) == built_in
    with pytest.raises(RecipeError, match="name its file with --recipe"):
        recipes.of_version(parts.registry, dataclasses.replace(version, recipe="mine"))


def test_a_version_knows_its_pipeline_run_and_training_set(parts: Parts, training_set: TrainingSet) -> None:
    train(parts, training_set, RECIPE, pipeline_run="run-7")
    (origin,) = parts.registry.origins  # type: ignore[attr-defined]
    assert (origin.pipeline_run, origin.training_set) == ("run-7", str(training_set.folder))
    assert origin.sizes == training_set.sizes() and origin.sizes["classes"] == training_set.class_count
    assert origin.image_size_px == MODEL.image_size_px


def test_concurrent_trainings_of_one_key_make_one_version(parts: Parts, training_set: TrainingSet) -> None:
    versions: list[ModelVersion] = []
    threads = [
        threading.Thread(target=lambda: versions.append(train(parts, training_set, RECIPE))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {version.number for version in versions} == {1}
    assert len(parts.launcher.jobs) == 1  # type: ignore[attr-defined]


def test_a_version_without_files_is_trained_again_and_keeps_its_number(
    parts: Parts, training_set: TrainingSet
) -> None:
    first = train(parts, training_set, RECIPE)
    parts.registry.files_lost = True  # type: ignore[attr-defined]
    assert train(parts, training_set, RECIPE) == first
    assert len(parts.launcher.jobs) == 2  # type: ignore[attr-defined]


def test_a_failed_run_is_marked(parts: Parts, training_set: TrainingSet) -> None:
    parts.launcher.fails = True  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="a worker failed"):
        train(parts, training_set, RECIPE)
    [(_, failed)] = parts.registry.runs.ended  # type: ignore[attr-defined]
    assert failed


def test_a_registry_that_is_down_does_not_hide_the_failure(parts: Parts, training_set: TrainingSet) -> None:
    parts.launcher.fails = True  # type: ignore[attr-defined]
    parts.registry.runs.away = True  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="a worker failed"):
        train(parts, training_set, RECIPE)


def test_a_misspelt_slice_of_the_gate_is_refused_before_the_training(
    parts: Parts, training_set: TrainingSet
) -> None:
    gate = dataclasses.replace(RECIPE.gate, slice_margins={"Thing": -0.05})
    with pytest.raises(RecipeError, match="'Thing'"):
        train(parts, training_set, dataclasses.replace(RECIPE, gate=gate))
    assert not parts.launcher.jobs  # type: ignore[attr-defined]
