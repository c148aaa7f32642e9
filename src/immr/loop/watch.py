"""What the event log shows: the running experiment's readout, and the next click log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from immr import wiring
from immr.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.events.event_log import EventLog
    from immr.events.export import Exported
    from immr.experiment.definition import Experiment
    from immr.readout.decision import Decision
    from immr.readout.readout import Readout

_PRE_PERIOD = timedelta(days=14)  # what users did before an experiment steadies its readout


@dataclass(frozen=True)
class Watched:
    """What an experiment shows, and what follows from it."""

    experiment: Experiment
    readout: Readout
    decision: Decision


def read_out(settings: Settings, exported: Path | None = None) -> Watched:
    """Read the running experiment out of the event log, and say what would follow; writes nothing.

    Args:
        settings: Where the experiment and the event log are.
        exported: Instead of the event log, a folder with its `impressions*.parquet` (columns as
            `EventLog.joined` has them) and `searches*.parquet`, of any size.

    Raises:
        ExperimentError: there is no experiment, its file is wrong, or the folder lacks a table or column.
    """
    from immr.experiment.definition import load
    from immr.readout.decision import DecisionPolicy, decide
    from immr.readout.readout import readout

    experiment = load(settings.experiment_file)
    if exported is not None:
        return _read_out_files(exported, experiment)
    events = wiring.event_log(settings)
    joined, before = _split_at_start(events, experiment)
    result = readout(joined, experiment, searches=events.searches(experiment.started), before=before)
    events.close()
    return Watched(experiment, result, decide(result, DecisionPolicy()))


def export_events(settings: Settings, out: Path, since: datetime | None = None) -> Exported:
    """Write the event log as the next click log: queries and impressions in the data contract, bots left out.

    Args:
        settings: Where the event log and the kept photos are.
        out: The folder for the tables.
        since: From this time on; naive times are UTC.

    Raises:
        EventLogError: no query has a photo.
        DataError: `out` holds something else.
    """
    from immr.events.export import export
    from immr.events.photos import PhotoStore
    from immr.readout.sums import bots_among

    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    events = wiring.event_log(settings)
    joined, searches = events.joined(since), events.searches(since)
    events.close()
    bots = bots_among(joined, searches)
    return export(joined, searches, PhotoStore(settings.photos_dir).by_query(), bots, out)


def _read_out_files(folder: Path, experiment: Experiment) -> Watched:
    from immr.readout.decision import DecisionPolicy, decide
    from immr.readout.readout import readout
    from immr.readout.relations import Parquet, split_at_start

    joined, before = split_at_start(Parquet(f"{folder}/impressions*.parquet"), experiment, _PRE_PERIOD)
    searches = Parquet(f"{folder}/searches*.parquet", since=experiment.started)
    result = readout(joined, experiment, searches, before=before)
    return Watched(experiment, result, decide(result, DecisionPolicy()))


def _split_at_start(events: EventLog, experiment: Experiment) -> tuple[pa.Table, pa.Table | None]:
    """Impressions since the experiment's start, and those that CUPED may use from before it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from immr.readout.readout import before_the_test

    if experiment.started is None:
        return events.joined(), None
    joined = events.joined(experiment.started - _PRE_PERIOD)
    since = pc.greater_equal(joined["ts"], pa.scalar(experiment.started, joined["ts"].type))
    return joined.filter(since), before_the_test(joined, experiment)
