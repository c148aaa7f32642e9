"""One function per step of the loop: govern, train, evaluate, package, index, materialize, deploy, watch.

Each may be called again: what was computed from the same input is found by its key and reused.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from immr import __version__, wiring
from immr.data.content import content_hash
from immr.data.training_set import FILES, TrainingSet
from immr.loop import catalogue
from immr.loop import evaluate as judging
from immr.loop import materialize as item_features
from immr.loop import train as training_runs
from immr.loop import watch as watching
from immr.loop.reports import Report, publish
from immr.machine import cores
from immr.model.preprocessing import READING
from immr.recipes import Recipe
from immr.settings import Settings
from immr.storage import fingerprint
from immr.storage.atomic import check_replaceable, replace_folder_atomically
from immr.types import Item, ModelVersion, Role

if TYPE_CHECKING:
    from immr.deploy.deployer import Deployment
    from immr.evaluation.evaluate import Evaluation
    from immr.evaluation.gate import GateVerdict
    from immr.index.vector_index import IndexReport

log = logging.getLogger(__name__)


def govern(settings: Settings, data: Path, recipe: Recipe, out: Path | None = None) -> TrainingSet:
    """Clean, group and split a click log and a catalogue into a training set, kept below IMMR_HOME.

    Args:
        settings: where things are.
        data: folder with the tables.
        recipe: what is done.
        out: a folder for a copy, which is then the answer; an earlier training set in it is replaced.

    Raises:
        ContractError: the data do not keep the contract; the message names file and column.
        DataError: `out` holds something else.
    """
    from immr.governance.embedder import FrozenEmbedder
    from immr.governance.govern import govern as build

    if out is not None:
        check_replaceable(out, FILES)  # before the work
    embedder = FrozenEmbedder(recipe.model, settings.cache_dir, threads=cores.usable())
    key = fingerprint.of_values(
        "govern", __version__, content_hash(data), recipe.governance, str(data.absolute()), embedder.name
    )
    kept = settings.work_dir / "training-sets" / key[:16]
    if kept.is_dir():
        log.info("govern: the same data and recipe were governed before; reusing %s", kept)
    else:
        build(data, kept, recipe.governance, settings.engine_url, embedder)
    if out is not None and out.absolute() != kept:
        with replace_folder_atomically(out, FILES) as aside:
            shutil.copytree(kept, aside, dirs_exist_ok=True)
    training_set = TrainingSet(out or kept)
    sentence = f"{len(training_set.queries)} photos in {training_set.class_count} classes to learn from"
    publish(
        settings.home,
        training_set.folder / "report.html",
        Report("governance", "Data governance", recipe.name, sentence),
    )
    return training_set


def train(settings: Settings, training_set: TrainingSet, recipe: Recipe) -> ModelVersion:
    """Train the recipe's towers on a training set and register the result; a run that was cut off goes on.

    What was trained from the same data and recipe is reused, where its files are still there.

    Raises:
        TrainingError: a worker failed or the loss is not a number.
    """
    from immr.launch.job_lock import job_lock

    registry = wiring.registry(settings)
    key = fingerprint.of_values("train", __version__, READING, training_set.hash, recipe.model, recipe.train)
    with job_lock(training_runs.folder_of(settings, key)):
        if found := training_runs.finished(settings, registry, key):
            log.info("train: %s was trained from the same data and recipe; reusing it", found.id)
            return found
        job = training_runs.run(settings, registry, training_set, recipe, key)
        version = training_runs.register(registry, job)
        shutil.rmtree(job.checkpoints, ignore_errors=True)
        return version


def stop_training(settings: Settings, run: str) -> list[str]:
    """End what a pipeline run has left training; returns the jobs' names.

    Raises:
        TrainingError: the cluster refuses.
    """
    return wiring.launcher(settings).stop(run)


@dataclass(frozen=True)
class Evaluated:
    """What evaluation found, and whether the version may go on."""

    evaluation: Evaluation
    verdict: GateVerdict
    champion: ModelVersion | None


def evaluate(
    settings: Settings, version: ModelVersion, training_set: TrainingSet, recipe: Recipe, gallery: Path
) -> Evaluated:
    """Judge a version on the held-out photos, beside the champion, and write the report (HTML)."""
    from immr.evaluation.gate import gate
    from immr.evaluation.report import write_report

    registry = wiring.registry(settings)
    evaluation = judging.evaluation_of(settings, version, training_set, recipe)
    champion = registry.role("champion")
    if champion is not None and champion.id == version.id:
        champion = None
    before = judging.evaluation_of(settings, champion, training_set, recipe) if champion else None
    verdict = gate(evaluation, before, recipe.gate)

    write_report(
        evaluation,
        training_set.items,
        gallery,
        name=f"{version.id} ({recipe.name})",
        verdict=verdict,
        comparisons={champion.id: before} if champion and before else None,
        background=judging.background(settings, version, training_set, recipe),
    )
    registry.runs.log_metrics(version.run_id, judging.numbers(evaluation, verdict))
    registry.runs.log_report(version.run_id, gallery, "evaluation.html")
    registry.runs.log_report(version.run_id, training_set.folder / "report.html", "governance.html")
    registry.tag(version, "gate", verdict.sentence)
    publish(
        settings.home,
        gallery,
        Report("evaluation", f"Evaluation of {version.id}", recipe.name, verdict.sentence, version.id),
    )
    return Evaluated(evaluation, verdict, champion)


def package(settings: Settings, version: ModelVersion, recipe: Recipe) -> str:
    """Build the version's Bento, query encoder in ONNX and no torch in it; returns its tag."""
    from immr.packaging import bento

    registry = wiring.registry(settings)
    return bento.build(
        version,
        registry.fetch(version, settings.cache_dir),
        ranking=recipe.ranking,
        service_folder=wiring.service_folder(),
        bento_home=settings.bento_home,
    )


def index(settings: Settings, version: ModelVersion, items: Sequence[Item]) -> IndexReport:
    """Embed the catalogue with the version's document tower into the version's own collection.

    Changes since the catalogue was read are taken in; those that come meanwhile are delivered after it.
    """
    from immr.model.documents import encode_documents

    items, sequence = catalogue.current(settings, items)
    folder = wiring.registry(settings).fetch(version, settings.cache_dir)
    embeddings_ND = encode_documents(folder, items, settings.cache_dir)
    report = wiring.index(settings).build(version, items, embeddings_ND, sequence)
    catalogue.built(settings, version)
    return report


def materialize(settings: Settings, training_set: TrainingSet, data: Path) -> int:
    """Bring item features of a click log's last seven days online; returns the number of items."""
    return wiring.features(settings).materialize(item_features.of_click_log(training_set, data))


def push(settings: Settings, training_set: TrainingSet, data: Path) -> int:
    """Bring item features online with what the event log has seen since; returns the number of items."""
    stats = item_features.of_click_log_and_events(settings, training_set, data)
    return wiring.features(settings).push(stats)


def deploy(settings: Settings, version: ModelVersion, bento: str) -> Deployment:
    """Let a version serve: as champion where there is none, else as challenger."""
    registry = wiring.registry(settings)
    champion = registry.role("champion")
    role: Role = "champion" if champion is None or champion.id == version.id else "challenger"
    deployment = wiring.deployer(settings).apply(version, bento, role)
    registry.set_role(role, version)
    return deployment


def watch(settings: Settings) -> watching.Watched:
    """Read the running experiment out, and write the decision to the promotion log.

    Raises:
        ExperimentError: there is no experiment, or its file is wrong.
    """
    watched = watching.read_out(settings)
    registry = wiring.registry(settings)
    versions = {side.name: registry.get(side.model_version) for side in watched.experiment.variants}
    registry.record_decision(
        action=watched.decision.action,
        reason=watched.decision.reason,
        numbers=watched.decision.numbers,
        champion=versions["champion"],
        challenger=versions.get("challenger"),
    )
    return watched
