"""Whatever change a step is killed before: run again, it leaves what a step does that was not killed.

See `kill_points`. Training runs in the killed process here; elsewhere it is torchrun's, see `test_training_restarts`.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr import recipes
from immr.data.contract import IMPRESSIONS
from immr.data.training_set import TrainingSet
from immr.deploy.bento_content import built_content
from immr.launch.launcher import TrainingJob
from immr.loop.index import index
from immr.loop.materialize import materialize
from immr.loop.package import package
from immr.loop.train import train
from immr.packaging import bento
from immr.settings import Settings
from immr.storage import fingerprint
from immr.train.job import TrainJob, run
from immr.train.world import World
from immr.wiring import Parts
from tests.loop.test_materialize import shown
from tests.support import sparse_copy, tiny_training_set
from tests.support.kill_points import killed_at
from tests.support.tiny_training_set import MODEL, TRAIN

RECIPE = dataclasses.replace(
    recipes.by_name("smoke"),
    model=dataclasses.replace(MODEL, fusion="image"),
    train=dataclasses.replace(TRAIN, epochs=2),
)


class InThisProcess:
    """A launcher whose training is killed with the process that waits for it."""

    def run(self, job: TrainingJob) -> None:
        run(TrainJob.read(job.job_file), World())

    def stop(self, run: str) -> list[str]:
        return []


def parts_at(home: Path) -> Parts:
    return Parts.of(Settings(home=home), launcher=InThisProcess())


def training_set(home: Path) -> TrainingSet:
    return TrainingSet(home / "shop")


def train_it(home: Path) -> None:
    train(parts_at(home), training_set(home), RECIPE)


def package_it(home: Path) -> None:
    """BentoML builds once, which takes seconds; then what it built is copied to where it builds."""
    parts, built, really = parts_at(home), home / "shop" / "built", bento._run

    def build(command: Sequence[str], failed: str, environment: Mapping[str, str], cwd: Path) -> None:
        if not built.exists():
            really(list(command), failed, dict(environment), cwd)
            shutil.copytree(environment["BENTOML_HOME"], built)
        shutil.copytree(built, environment["BENTOML_HOME"], dirs_exist_ok=True)

    with mock.patch.object(bento, "_run", build):
        package(parts, parts.registry.get("immr-1"), RECIPE)


def index_it(home: Path) -> None:
    parts = parts_at(home)
    index(parts, parts.registry.get("immr-1"), training_set(home).items)


def materialize_it(home: Path) -> None:
    materialize(parts_at(home), training_set(home), home / "shop")


def files(folder: Path) -> dict[str, str]:
    """The files below a folder that anyone reads, with the hashes of their content."""
    found = sorted(path for path in folder.rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(folder)): fingerprint.of_bytes(path.read_bytes()) for path in found}


def trained(home: Path) -> dict[str, Any]:
    parts = parts_at(home)
    registry = parts.registry
    versions = registry.versions()
    fetched = files(registry.fetch(versions[0], parts.settings.cache_dir))
    runs = registry.runs._store.call("search_runs", [registry.runs._experiment_id])
    return {
        "versions": [(each.id, each.key, each.manifest_hash) for each in versions],
        "files": {name: fetched[name] for name in ("curves.json", "query_encoder.onnx", "card.json")},
        "names": sorted(fetched),
        "recipe": recipes.of_version(registry, versions[0]),
        "runs": [(run.info.status, run.data.metrics["loss"], sorted(run.data.metrics)) for run in runs],
        "left": sorted(path.name for path in parts.settings.work_dir.glob("training/*/[!.]*")),
    }


def packaged(home: Path) -> dict[str, Any]:
    folder, tag = Settings(home=home).bento_home, bento.tag_of("immr-1")
    there = files(folder / "bentos" / tag.replace(":", "/"))
    return {"content": built_content(folder, tag), "files": sorted(there)}


def indexed(home: Path) -> dict[str, Any]:
    parts = parts_at(home)
    version = parts.registry.get("immr-1")
    folder = home / "index"
    with closing(parts.index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
        embeddings = collection.embeddings([item.item_id for item in training_set(home).items])
        return {
            "points": collection.count(),
            "embeddings": {item: rows.round(5).tolist() for item, rows in embeddings.items()},
            "ready": collection.binding.ready,
            "contents": [path.name for path in folder.glob("*/*") if path.is_dir()],
        }


def materialized(home: Path) -> dict[str, Any]:
    features = parts_at(home).features.read([item.item_id for item in training_set(home).items])
    return {item: (each.impressions_7d, each.clicks_7d, each.price) for item, each in features.items()}


@dataclass(frozen=True)
class Step:
    run: Callable[[Path], None]
    leaves: Callable[[Path], dict[str, Any]]
    every: int = 1  # of its changes: one that takes seconds is not killed before each


STEPS = {
    "train": Step(train_it, trained, every=10),
    "package": Step(package_it, packaged, every=5),
    "index": Step(index_it, indexed),
    "materialize": Step(materialize_it, materialized),
}


def run_step(name_and_home: tuple[str, Path]) -> None:
    """In a process that is killed."""
    name, home = name_and_home
    STEPS[name].run(home)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """By step, the home before it."""
    folder = tmp_path_factory.mktemp("steps")
    home = folder / "train"
    (home / "shop").mkdir(parents=True)
    tiny_training_set.write(home / "shop")
    rows = [shown("a"), shown("b", clicked=False)]
    pq.write_table(pa.Table.from_pylist(rows, IMPRESSIONS.columns), home / "shop" / "impressions.parquet")
    parts_at(home).registry.versions()
    sparse_copy.copy(home, folder / "package")
    train_it(folder / "package")
    whole = sparse_copy.copy(folder / "package", folder / "packaged")
    package_it(whole)
    shutil.move(whole / "shop" / "built", folder / "package" / "shop")
    yield {
        "train": home,
        **dict.fromkeys(("package", "index", "materialize"), folder / "package"),
    }
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STEPS)
def test_a_killed_step_run_again_leaves_what_one_does_that_was_not_killed(
    homes: dict[str, Path], tmp_path: Path, name: str
) -> None:
    step, before = STEPS[name], homes[name]
    whole = sparse_copy.copy(before, tmp_path / "whole")
    step.run(whole)
    expected = step.leaves(whole)
    number = 1
    # each home has a path of its own: MLflow keeps connections to databases, by their path
    while change := killed_at(
        number, home := sparse_copy.copy(before, tmp_path / f"{number}"), run_step, (name, home)
    ):
        step.run(home)
        assert step.leaves(home) == expected, f"killed before change {number}: {change}"
        shutil.rmtree(home)
        number += step.every
    print(f"{name}: it makes up to {number} changes")
    assert number > 1
