"""One function per step of the loop: govern, train, evaluate, package, index, materialize, deploy, watch.

Each may be called again: what was computed from the same input is found by its key and reused.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from immr import __version__, fingerprint, wiring
from immr.data.training_set import LabelledPhoto, TrainingSet
from immr.errors import ContractError
from immr.files import folder_written_whole
from immr.recipes import Recipe
from immr.reports import Report, publish
from immr.settings import Settings
from immr.types import FloatArray, Item, ModelVersion, Role

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.deploy.port import Deployment
    from immr.evaluation.evaluate import Evaluation
    from immr.evaluation.gate import GateVerdict
    from immr.events.export import Exported
    from immr.events.port import EventLog
    from immr.experiment.decision import Decision
    from immr.experiment.definition import Experiment
    from immr.experiment.readout import Readout
    from immr.index.port import IndexReport

log = logging.getLogger(__name__)
_PRE_PERIOD = timedelta(days=14)  # what users did before an experiment steadies its readout


def govern(settings: Settings, data: Path, recipe: Recipe, out: Path) -> TrainingSet:
    """Clean, group and split a click log and a catalogue into the training set `out`.

    Raises:
        ContractError: the data do not keep the contract; the message names file and column.
    """
    from immr.governance.embedder import FrozenEmbedder
    from immr.governance.govern import govern as build

    embedder = FrozenEmbedder(recipe.model, settings.cache_dir, threads=os.cpu_count() or 1)
    key = fingerprint.of_values(
        "govern", __version__, _content_of(data), recipe.governance, str(data.absolute()), embedder.name
    )
    kept = settings.work_dir / "training-sets" / key[:16]
    if kept.is_dir():
        log.info("govern: the same data and recipe were governed before; reusing %s", kept)
    else:
        build(data, kept, recipe.governance, settings.engine_url, embedder)
    if out.absolute() != kept:
        shutil.copytree(kept, out, dirs_exist_ok=True)
    training_set = TrainingSet(out)
    sentence = f"{len(training_set.queries)} photos in {training_set.class_count} classes to learn from"
    publish(
        settings.home, out / "report.html", Report("governance", "Data governance", recipe.name, sentence)
    )
    return training_set


def training_set_of(settings: Settings, version: ModelVersion) -> TrainingSet:
    """The training set that a version was trained on, where this machine governed it.

    Raises:
        ContractError: it is not here; the message says what to do.
    """
    for folder in sorted((settings.work_dir / "training-sets").glob("[!.]*")):
        kept = TrainingSet(folder)
        if kept.hash == version.manifest_hash:
            return kept
    raise ContractError(
        f"the training set of {version.id} (manifest {version.manifest_hash[:16]}) is not in "
        f"{settings.work_dir / 'training-sets'}: run `immr govern` on its data again"
    )


def train(settings: Settings, training_set: TrainingSet, recipe: Recipe) -> ModelVersion:
    """Train the recipe's towers on a training set and register the result; a run that was cut off goes on.

    Raises:
        TrainingError: a worker failed or the loss is not a number.
    """
    from immr.launch.port import TrainingJob
    from immr.model.card import Card
    from immr.train.job import TrainJob

    registry = wiring.registry(settings)
    key = fingerprint.of_values("train", __version__, training_set.hash, recipe.model, recipe.train)
    if found := registry.find(key):
        log.info("train: %s was trained from the same data and recipe; reusing it", found.id)
        return found

    run_id = registry.start_run(
        f"{recipe.name}-{key[:8]}",
        params=asdict(recipe),
        tags={"manifest_hash": training_set.hash, "recipe": recipe.name},
        key=key,
    )
    folder = settings.work_dir / "training" / key[:16]
    job = TrainJob(
        training_set=_below_home(settings, training_set).folder.absolute(),
        out=folder / "version",
        checkpoints=folder / "checkpoints",
        cache_dir=settings.cache_dir,
        recipe_name=recipe.name,
        model=recipe.model,
        train=recipe.train,
        key=key,
        manifest_hash=training_set.hash,
        tracking_url=settings.tracking_url,
        run_id=run_id,
    )
    job_file = folder / "job.json"
    job.write(job_file)
    try:
        wiring.launcher(settings).run(TrainingJob(f"immr-{key[:12]}", job_file, recipe.train.processes))
    except BaseException:
        registry.finish_run(run_id, failed=True)
        raise
    card = Card.read(job.out)
    version = registry.register(
        job.out,
        key,
        run_id,
        dim=card.model.dim,
        preprocessing_hash=card.preprocessing.hash,
        manifest_hash=card.manifest_hash,
        recipe=card.recipe,
    )
    registry.finish_run(run_id)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return version


@dataclass(frozen=True)
class Evaluated:
    """What evaluation found, and whether the version may go on."""

    evaluation: Evaluation
    verdict: GateVerdict
    champion: ModelVersion | None


def evaluate(
    settings: Settings, version: ModelVersion, training_set: TrainingSet, recipe: Recipe, gallery: Path
) -> Evaluated:
    """Judge a version on the held-out photos, beside the champion, and write the gallery (HTML)."""
    from immr.evaluation.gallery import write_gallery
    from immr.evaluation.gate import gate

    registry = wiring.registry(settings)
    evaluation = evaluation_of(settings, version, training_set, recipe)
    champion = registry.role("champion")
    if champion is not None and champion.id == version.id:
        champion = None
    before = evaluation_of(settings, champion, training_set, recipe) if champion else None
    verdict = gate(evaluation, before, recipe.gate)

    write_gallery(
        evaluation,
        training_set.items,
        gallery,
        name=f"{version.id} ({recipe.name})",
        verdict=verdict,
        comparisons={champion.id: before} if champion and before else None,
    )
    registry.log_metrics(version.run_id, evaluation.means())
    registry.log_report(version.run_id, gallery, "gallery.html")
    registry.log_report(version.run_id, training_set.folder / "report.html", "governance.html")
    registry.tag(version, "gate", verdict.sentence)
    publish(
        settings.home,
        gallery,
        Report("evaluation", f"Evaluation of {version.id}", recipe.name, verdict.sentence, version.id),
    )
    return Evaluated(evaluation, verdict, champion)


def evaluation_of(
    settings: Settings, version: ModelVersion, training_set: TrainingSet, recipe: Recipe
) -> Evaluation:
    """A version's answers to the held-out photos; kept, since neither ever changes."""
    from immr.evaluation.evaluate import Evaluation

    intervals = (recipe.gate.confidence, recipe.gate.bootstrap_rounds, recipe.gate.seed)
    key = fingerprint.of_values(version.key, training_set.hash, *intervals)[:16]
    kept = settings.work_dir / "evaluations" / f"{version.id}-{key}.json"
    if kept.is_file():
        return Evaluation.read(kept)
    evaluation = _judge(
        settings,
        version,
        training_set.judgements,
        training_set.items,
        training_set.item_classes,
        recipe,
    )
    evaluation.write(kept)
    return evaluation


def evaluate_dataset(
    settings: Settings, version: ModelVersion, dataset: str, split: str, recipe: Recipe
) -> Evaluation:
    """Judge a version on a split of a named data set, against all of its items.

    Raises:
        DatasetError: no such data set or split; the message lists those there are.
    """
    from immr.data import datasets

    labelled = datasets.load(dataset, settings.data_mirror, settings.cache_dir)
    class_of = {item.item_id: number for number, item in enumerate(labelled.items)}
    photos = [
        LabelledPhoto(f"{split}-{number}", photo.image, class_of[photo.item_id], photo.item_id)
        for number, photo in enumerate(labelled.split(split))
    ]
    return _judge(settings, version, photos, labelled.items, list(class_of.values()), recipe)


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
    """Embed the catalogue with the version's document tower into the version's own collection."""
    from immr.model.documents import encode_documents

    folder = wiring.registry(settings).fetch(version, settings.cache_dir)
    embeddings_ND = encode_documents(folder, items, settings.cache_dir)
    return wiring.index(settings).build(version, items, embeddings_ND)


def materialize(settings: Settings, training_set: TrainingSet, data: Path) -> int:
    """Bring item features of a click log's last seven days online; returns the number of items."""
    from immr.features.stats import item_stats

    impressions = _impressions(data)
    stats = item_stats(training_set.items, impressions, now=_newest(impressions))
    return wiring.features(settings).materialize(stats)


def push(settings: Settings, training_set: TrainingSet, data: Path) -> int:
    """Bring item features online with what the event log has seen since; returns the number of items."""
    import pyarrow as pa

    from immr.features.stats import item_stats

    before = _impressions(data)
    events = wiring.event_log(settings)
    live = events.joined().select(before.column_names).cast(before.schema)
    events.close()
    impressions = pa.concat_tables([before, live])
    stats = item_stats(training_set.items, impressions, now=_newest(impressions))
    return wiring.features(settings).push(stats)


def deploy(settings: Settings, version: ModelVersion, bento: str) -> Deployment:
    """Let a version serve: as champion where there is none, else as challenger."""
    registry = wiring.registry(settings)
    champion = registry.role("champion")
    role: Role = "champion" if champion is None or champion.id == version.id else "challenger"
    deployment = wiring.deployer(settings).apply(version, bento, role)
    registry.set_role(role, version)
    return deployment


@dataclass(frozen=True)
class Watched:
    """What an experiment shows, and what follows from it."""

    experiment: Experiment
    readout: Readout
    decision: Decision


def read_out(settings: Settings) -> Watched:
    """Read the running experiment out of the event log, and say what would follow; writes nothing.

    Raises:
        ExperimentError: there is no experiment, or its file is wrong.
    """
    from immr.experiment.decision import DecisionPolicy, decide
    from immr.experiment.definition import load
    from immr.experiment.readout import readout

    experiment = load(settings.experiment_file)
    events = wiring.event_log(settings)
    joined, before = _split_at_start(events, experiment)
    result = readout(joined, experiment, searches=events.searches(experiment.started), before=before)
    events.close()
    return Watched(experiment, result, decide(result, DecisionPolicy()))


def watch(settings: Settings) -> Watched:
    """Read the running experiment out, and write the decision to the promotion log.

    Raises:
        ExperimentError: there is no experiment, or its file is wrong.
    """
    watched = read_out(settings)
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


def embed_photos(folder: Path, uris: Sequence[str], threads: int = 2) -> FloatArray:
    """Embed photos as the Bento will: decoded, fitted and encoded by the version's ONNX query encoder.

    Returns:
        (N, D) float32, unit rows, in the order of `uris`.
    """
    from immr.data.images import decode, read
    from immr.model.query_encoder import OnnxQueryEncoder

    encoder = OnnxQueryEncoder(folder, threads=threads)
    embeddings = []
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(uris, 32):
            embeddings.append(encoder.encode(list(pool.map(lambda uri: decode(read(uri)), batch))))
    return np.concatenate(embeddings)


def _judge(
    settings: Settings,
    version: ModelVersion,
    photos: Sequence[LabelledPhoto],
    items: Sequence[Item],
    item_classes: Sequence[int],
    recipe: Recipe,
) -> Evaluation:
    from immr.evaluation.evaluate import evaluate as judge
    from immr.model.documents import encode_documents

    folder = wiring.registry(settings).fetch(version, settings.cache_dir)
    embeddings_QD = embed_photos(folder, [photo.image for photo in photos])
    embeddings_ND = encode_documents(folder, items, settings.cache_dir)
    return judge(embeddings_QD, photos, embeddings_ND, items, item_classes, recipe.gate)


def export_events(settings: Settings, out: Path, since: datetime | None = None) -> Exported:
    """Write the event log as the next click log: queries and impressions in the data contract, bots left out.

    Args:
        settings: Where the event log and the kept photos are.
        out: The folder for the tables.
        since: From this time on; naive times are UTC.

    Raises:
        EventLogError: no query has a photo, or `out` holds something else.
    """
    from immr.events.export import export
    from immr.events.photos import PhotoStore
    from immr.experiment.bots import DEFAULT_BOT_POLICY, mark
    from immr.experiment.users import exposures

    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    events = wiring.event_log(settings)
    joined, searches = events.joined(since), events.searches(since)
    events.close()
    bots = mark(exposures(joined, searches), DEFAULT_BOT_POLICY)["user_id"].to_pylist()
    return export(joined, searches, PhotoStore(settings.photos_dir).by_query(), bots, out)


def _split_at_start(events: EventLog, experiment: Experiment) -> tuple[pa.Table, pa.Table | None]:
    """Impressions since the experiment's start, and those that CUPED may use from before it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from immr.experiment.readout import before_the_test

    if experiment.started is None:
        return events.joined(), None
    joined = events.joined(experiment.started - _PRE_PERIOD)
    since = pc.greater_equal(joined["ts"], pa.scalar(experiment.started, joined["ts"].type))
    return joined.filter(since), before_the_test(joined, experiment)


def _below_home(settings: Settings, training_set: TrainingSet) -> TrainingSet:
    """The same training set where training processes see it too: a cluster's pods share IMMR_HOME only."""
    if training_set.folder.absolute().is_relative_to(settings.home):
        return training_set
    sets = settings.work_dir / "training-sets"
    for folder in sorted(sets.glob("[!.]*")):
        kept = TrainingSet(folder)
        if kept.hash == training_set.hash:
            return kept
    with folder_written_whole(sets / f"copy-{training_set.hash[:16]}") as aside:
        shutil.copytree(training_set.folder, aside, dirs_exist_ok=True)
    return TrainingSet(sets / f"copy-{training_set.hash[:16]}")


def _content_of(data: Path) -> dict[str, str]:
    return {table.name: fingerprint.of_file(table) for table in sorted(data.glob("*.parquet"))}


def _impressions(data: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(data / "impressions.parquet")


def _newest(impressions: pa.Table) -> datetime:
    import pyarrow.compute as pc

    newest: datetime = pc.max(impressions["ts"]).as_py()
    return newest


def _batches(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))
