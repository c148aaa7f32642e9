"""The catalogue between two trainings: changes go to the outbox, and from there to every collection.

A change is safe once it is in the outbox. Delivery embeds it with each version's own document tower; a
version whose collection does not answer keeps its place and gets the rest, in order, the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from immr import wiring
from immr.data.admission import TableCounts
from immr.data.item_changes import read_ids, read_items
from immr.errors import ContractError, ImmrError, IndexMismatchError
from immr.experiment.definition import load
from immr.index.outbox import Change, Delivered, Outbox, with_changes
from immr.index.vector_index import Changes, VectorIndex
from immr.settings import Settings
from immr.types import Item, ModelVersion

log = logging.getLogger(__name__)

CHANGES_AT_ONCE = 512


@dataclass(frozen=True)
class Progress:
    """How far a version's collection is; `error` says why it is no further."""

    version_id: str
    live: bool
    delivered: int  # the last change that the collection was given
    latest: int
    searched: int | None  # the last that searches see, where that is known
    error: str = ""

    @property
    def waiting(self) -> int:
        """Changes that the collection does not have yet."""
        return self.latest - self.delivered


@dataclass(frozen=True)
class Written:
    """Changes that are safe: how many of each kind, what was left out and why, the last one's sequence."""

    changed: int
    deleted: int
    rejected: dict[str, int]
    sequence: int


def outbox(settings: Settings) -> Outbox:
    """The outbox of this home."""
    return Outbox(settings.home / "items" / "outbox.db")


def change(settings: Settings, items: Sequence[Item], deleted: Sequence[str] = ()) -> list[Progress]:
    """Write changes down, then deliver all that wait."""
    outbox(settings).append(items, deleted)
    return deliver(settings)


def upsert(settings: Settings, file: Path) -> tuple[TableCounts, list[Progress]]:
    """Take the items of a Parquet or CSV file into the catalogue, then deliver all that wait.

    Returns:
        What became of the file's rows, and how far each version's collection is.

    Raises:
        ContractError: the file holds no valid item.
    """
    found = read_items(file)
    return found.counts, change(settings, found.items)


def write_down(settings: Settings, changed: Path | None, deleted: Path | None) -> Written:
    """Take two files of changes into the outbox, both or neither; delivers nothing yet.

    Args:
        settings: Where things are.
        changed: Items that are new or different, by the data contract.
        deleted: Items that are gone: a file with a column `item_id`.

    Raises:
        ContractError: a file cannot be read or holds no valid item, or one item is in both.
    """
    found = read_items(changed) if changed else None
    items = found.items if found else []
    gone = read_ids(deleted) if deleted else []
    if both := sorted({item.item_id for item in items} & set(gone)):
        raise ContractError(f"{both[0]} is changed and deleted ({len(both)} such items): leave one out")
    sequence = outbox(settings).append(items, gone)
    return Written(len(items), len(gone), dict(found.counts.rejected) if found else {}, sequence)


def deliver(settings: Settings) -> list[Progress]:
    """Bring every collection up to date, as far as they answer; says how far each one is."""
    index = wiring.index(settings)
    box = outbox(settings)
    with box.delivering():
        latest = box.latest()
        errors = {}
        for version in _with_collection(settings, index):
            try:
                _deliver_to(settings, index, box, version, latest)
            except ImmrError as error:
                errors[version.id] = str(error)
                log.warning("changes wait for %s: %s", version.id, error)
    return [_with_error(each, errors) for each in status(settings)]


def status(settings: Settings) -> list[Progress]:
    """How far each version's collection is; asks no collection but for what it has."""
    index, box = wiring.index(settings), outbox(settings)
    live = live_versions(settings)
    found = []
    for version in _with_collection(settings, index):
        delivered, searched, error = box.delivered(version.id), None, ""
        try:
            delivered = _delivered(index, box, version)
            searched = index.applied(version.id)
        except ImmrError as unavailable:
            error = str(unavailable)
        is_live = version.id in live
        found.append(Progress(version.id, is_live, delivered.sequence, box.latest(), searched, error))
    return found


def current(settings: Settings, items: Sequence[Item]) -> tuple[list[Item], int]:
    """A catalogue with all changes in it, and the sequence of the last one."""
    box = outbox(settings)
    latest = box.latest()
    return with_changes(items, box.between(0, latest)), latest


def built(settings: Settings, version: ModelVersion) -> None:
    """A version's collection was made: deliver what came while it was built."""
    box = outbox(settings)
    with box.delivering():
        if latest := box.latest():
            _deliver_to(settings, wiring.index(settings), box, version, latest)


def live_versions(settings: Settings) -> set[str]:
    """Versions that somebody counts on: by role, by the experiment file (rollback too), or deployed."""
    registry = wiring.registry(settings)
    live = {version.id for role in ("champion", "challenger") if (version := registry.role(role))}
    live |= {deployment.version_id for deployment in wiring.deployer(settings).current()}
    if settings.experiment_file.is_file():
        experiment = load(settings.experiment_file)
        live |= {variant.model_version for variant in experiment.variants}
        if experiment.previous is not None:
            live.add(experiment.previous.model_version)
    return live


def collect_garbage(settings: Settings, keep: int, dry_run: bool = False) -> dict[str, str]:
    """Delete collections of old versions; returns what became of each, by version id.

    Args:
        settings: Where things are.
        keep: So many of the newest versions stay for rollback, beside the live ones.
        dry_run: Only say what would be done.
    """
    index = wiring.index(settings)
    live = live_versions(settings)
    known = {version.id: version.number for version in wiring.registry(settings).versions()}
    ours = sorted((id for id in index.versions() if id in known), key=lambda id: -known[id])
    newest = [id for id in ours if id not in live][:keep]
    fate = {}
    for id in ours:
        if id in live:
            fate[id] = "live, stays"
        elif id in newest:
            fate[id] = f"one of the {keep} newest, stays"
        elif dry_run:
            fate[id] = "would be deleted"
        else:
            fate[id] = "deleted" if index.remove(id) else "held by a process, stays"
    return fate


def _with_collection(settings: Settings, index: VectorIndex) -> list[ModelVersion]:
    """Registered versions that have a collection: the live ones, and those kept for rollback.

    Where the index does not answer, the live ones, because changes wait for them.
    """
    versions = wiring.registry(settings).versions()
    try:
        there = set(index.versions())
    except ImmrError:
        there = live_versions(settings)
    return [version for version in versions if version.id in there]


def _deliver_to(
    settings: Settings, index: VectorIndex, box: Outbox, version: ModelVersion, latest: int
) -> None:
    done = _delivered(index, box, version)
    while done.sequence < latest:
        until = min(latest, done.sequence + CHANGES_AT_ONCE)
        changes = box.between(done.sequence, until)
        try:
            index.change(version, _embedded(settings, version, changes))
        except IndexMismatchError:
            if version.id in live_versions(settings):
                raise
            return  # a build that was given up: whoever finishes it takes the changes in
        done = replace(done, sequence=until)
        box.note_delivered(version.id, done)


def _delivered(index: VectorIndex, box: Outbox, version: ModelVersion) -> Delivered:
    """How far the content is that serves now: a new one lacks what the one before it was given."""
    noted, content = box.delivered(version.id), index.content(version.id)
    if content is None or content.name == noted.content:
        return noted
    return Delivered(content.name, content.sequence)


def _embedded(settings: Settings, version: ModelVersion, changes: Sequence[Change]) -> Changes:
    put = [(change.sequence, change.item) for change in changes if change.item is not None]
    gone = [change for change in changes if change.item is None]
    items = [item for _, item in put]
    embeddings_ND = np.zeros((0, version.dim), dtype=np.float32)
    if items:
        from immr.model.documents import encode_documents

        folder = wiring.registry(settings).fetch(version, settings.cache_dir)
        embeddings_ND = encode_documents(folder, items, settings.cache_dir)
    sequences = [sequence for sequence, _ in put] + [change.sequence for change in gone]
    return Changes(items, embeddings_ND, [change.item_id for change in gone], sequences)


def _with_error(progress: Progress, errors: dict[str, str]) -> Progress:
    return replace(progress, error=errors.get(progress.version_id, progress.error))
