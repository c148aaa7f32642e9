"""Watch: read out the running test, and export the event log as the next click log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from immr.errors import ContractError, ExperimentError, RegistryError

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.data.sources.shop import Shop
    from immr.events.export import Exported
    from immr.events.sink import Sunk
    from immr.experiment.definition import Experiment
    from immr.readout.decision import Decision
    from immr.readout.event_views import Parquet
    from immr.readout.readout import Readout
    from immr.readout.segments import Segment
    from immr.wiring import Parts


@dataclass(frozen=True)
class Watched:
    """An experiment, its readout, the decision that follows, and the segments that were asked for."""

    experiment: Experiment
    readout: Readout
    decision: Decision
    segments: tuple[Segment, ...] = ()


def record(parts: Parts, watched: Watched, applied: bool) -> None:
    """Write a decision to the promotion log: that on the winner, or one for each challenger."""
    from immr.readout.decision import Verdict

    registry, experiment, decision = parts.registry, watched.experiment, watched.decision
    about = (decision.winner,) if decision.winner else decision.verdicts
    for verdict in about or (Verdict("", decision.action, decision.reason),):
        tested = experiment.variant(verdict.challenger) if verdict.challenger else None
        registry.record_decision(
            action=verdict.action,
            reason=verdict.reason,
            numbers=decision.numbers,
            champion=registry.get(experiment.champion.model_version),
            challenger=registry.get(tested.model_version) if tested else None,
            experiment=experiment.name,
            applied=applied,
        )


def read_out(
    parts: Parts,
    exported: Path | str | None = None,
    by: Sequence[str] = (),
    experiment: Experiment | None = None,
) -> Watched:
    """Read out the running experiment from the event log and decide; writes nothing.

    Args:
        parts: The process's adapters.
        exported: Read this instead of the event log: a folder with what `sink_events` wrote, or with
            `impressions*.parquet` (columns as in `EventLog.joined`) and `searches*.parquet`, of any size; or the URL
            of a warehouse with these tables.
        by: Dimensions for `Watched.segments`: declared ones of the searches' context, category, day and rank. As
            the whole comparison, segments are withheld if the number of users does not match the shares.
        experiment: Read this out instead of the current one.

    Raises:
        ContractError: The warehouse does not answer, or lacks a table.
        ExperimentError: There is no experiment, its file is wrong, the folder lacks a table or column, or a
            dimension is unknown.
        EventLogError: The event log does not answer.
    """
    from immr.experiment.context import Dimensions, check_dimensions
    from immr.experiment.file import load
    from immr.readout.decision import DecisionPolicy, decide
    from immr.readout.readout import readout
    from immr.readout.segments import segments

    check_dimensions(by, Dimensions.parse(parts.settings.context))
    experiment = experiment or load(parts.settings.experiment_file)
    with _events(parts, exported, experiment) as events:
        result = readout(events.joined, experiment, events.searches, before=events.before)
        found = Watched(experiment, result, decide(result, DecisionPolicy()))
        if not by or (result.sample_ratio is not None and not result.sample_ratio.ok):
            return found
        categories = _categories(parts, experiment, events.folder) if "category" in by else None
        return replace(found, segments=segments(events.joined, events.searches, experiment, by, categories))


def export_events(
    parts: Parts, out: Path, since: datetime | None = None, catalogue: Shop | None = None
) -> Exported:
    """Write the event log as the next click log: queries and impressions in the data contract, without bots.

    Args:
        parts: The process's adapters.
        out: The folder for the tables.
        since: Only events since this time; naive times are UTC.
        catalogue: The shop whose items are written beside them.

    Raises:
        ContractError: The catalogue is missing or cannot be read.
        EventLogError: The event log does not answer, or no query has a photo.
        DataError: `out` holds something other than an earlier export.
    """
    from immr.data.sources.catalogue_copy import CatalogueCopy
    from immr.events.export import export
    from immr.events.query_photos import PhotoStore
    from immr.events.sink import on_disk

    items = CatalogueCopy.of(catalogue) if catalogue is not None else None
    with (
        on_disk(parts.events, _in_utc(since), "impressions", "searches") as files,
        PhotoStore(parts.settings.photos_dir).on_disk() as photos,
    ):
        return export(files["impressions"], files["searches"], photos, out, items)


def sink_events(parts: Parts, out: Path, since: datetime | None = None) -> Sunk:
    """Write the event log as Parquet by day, for a warehouse; see `events.sink`.

    Raises:
        EventLogError: The event log does not answer.
    """
    from immr.events.sink import sink

    return sink(parts.events, out, _in_utc(since))


def _in_utc(since: datetime | None) -> datetime | None:
    """A time without a zone is in UTC."""
    return since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since


@contextmanager
def _folder_of(experiment: Experiment, place: Path | str) -> Iterator[Path]:
    """A folder, or that of a copy of a warehouse's events."""
    from immr.data.sources.warehouse import is_warehouse
    from immr.readout.event_views import copy_events
    from immr.readout.readout import PRE_PERIOD

    if isinstance(place, Path) or not is_warehouse(place):
        yield Path(place)
        return
    started = experiment.started
    with TemporaryDirectory(prefix="immr-readout-") as copied:
        copy_events(place, started and started - PRE_PERIOD, Path(copied))
        yield Path(copied)


@dataclass(frozen=True)
class _Events:
    """Impressions of the test, those before it that CUPED may use, the test's searches, and a given folder."""

    joined: Parquet
    before: Parquet | None
    searches: Parquet
    folder: Path | None = None

    @classmethod
    def of(
        cls, shown: Parquet, asked: Parquet, experiment: Experiment, folder: Path | None = None
    ) -> _Events:
        from immr.readout.event_views import split_at_start
        from immr.readout.readout import PRE_PERIOD

        joined, before = split_at_start(shown, experiment, PRE_PERIOD)
        return cls(joined, before, replace(asked, since=experiment.started), folder)


@contextmanager
def _events(parts: Parts, exported: Path | str | None, experiment: Experiment) -> Iterator[_Events]:
    """Events in files: those that were exported, or a copy of the event log's."""
    from immr.events.sink import on_disk
    from immr.readout.event_views import Parquet
    from immr.readout.readout import PRE_PERIOD

    if exported is None:
        since = experiment.started and experiment.started - PRE_PERIOD
        with on_disk(parts.events, since, "impressions", "searches") as files:
            yield _Events.of(files["impressions"], files["searches"], experiment)
        return
    with _folder_of(experiment, exported) as folder:
        if not folder.is_dir():
            raise ExperimentError(
                f"there is no folder {folder}: write it with `immr events sink --out {folder}`"
            )
        if not any((folder / "impressions").glob("*/*.parquet")) and not any(
            folder.glob("impressions*.parquet")
        ):
            raise ExperimentError(
                f"there are no impressions in {folder}: give the folder that `immr events sink --out FOLDER` wrote"
            )
        shown, asked = (
            f"{folder}/{table}/*/*.parquet" if (folder / table).is_dir() else f"{folder}/{table}*.parquet"
            for table in ("impressions", "searches")
        )
        yield _Events.of(Parquet(shown), Parquet(asked), experiment, folder)


def _categories(parts: Parts, experiment: Experiment, exported: Path | None) -> pa.Table | None:
    """item_id and category: from the exported folder, else from the champion's training set if it is here.

    Items that left the catalogue since then keep their category; those that joined it are in the outbox.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from immr.index.outbox import Outbox
    from immr.loop.govern import training_set_of

    if exported is not None and (exported / "items.parquet").is_file():
        return pq.read_table(exported / "items.parquet", columns=["item_id", "category"])
    try:
        champion = parts.registry.get(experiment.champion.model_version)
        categories = dict(training_set_of(parts, champion).categories)
    except (ContractError, RegistryError):
        return None
    box = Outbox.below(parts.settings.home)
    for changed in box.between(0, box.latest()):
        if changed.item is not None:
            categories.setdefault(changed.item_id, changed.item.category)
    return pa.table({"item_id": list(categories), "category": list(categories.values())})
