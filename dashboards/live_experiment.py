"""The running experiment as the page's sections need it, cached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards import chart_data
from dashboards.cached import CachedValue
from dashboards.chart_data import CtrLines
from immr.charts.bars import Bar
from immr.errors import ImmrError
from immr.events.aggregates import Funnel
from immr.events.event_log import EventLog
from immr.experiment import history
from immr.experiment.definition import Experiment, Variant
from immr.experiment.file import load
from immr.experiment.history import PastTest
from immr.experiment.queue import Queue, load_queue
from immr.settings import Settings

if TYPE_CHECKING:
    from immr.readout.decision import Decision
    from immr.readout.readout import RankCtr, Readout
    from immr.readout.sums import Sums

Decisions = Callable[[], Sequence[Mapping[str, Any]]]
"""The promotion log, oldest first: mappings with `ts`, `action`, `reason`, `champion`, `challenger`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The experiment's readout, the decision that follows now, its last one in the promotion log, and the queue."""

    experiment: Experiment
    readout: Readout
    decision: Decision
    recorded: Mapping[str, Any] | None
    queue: Queue


@dataclass(frozen=True, slots=True)
class Speed:
    """Latency and funnel of searches, by variant."""

    bars: Sequence[Bar]
    funnel: Sequence[Funnel]


@dataclass(frozen=True, slots=True)
class Places:
    """Clicks by rank, and by category and variant as [impressions, clicks]."""

    ranks: Sequence[RankCtr]
    categories: Mapping[tuple[str, str], Sequence[int]]
    variants: Sequence[str]


class LiveExperiment:
    """Reads the experiment file, the event log and the promotion log.

    Args:
        settings: Where the experiment, its history and its queue are; each may be missing.
        events: The event log.
        decisions: Returns the promotion log.
        categories: Returns each item's category by id; empty if unknown.
        keep_s: How long values are cached at least.
    """

    def __init__(
        self,
        settings: Settings,
        events: EventLog,
        decisions: Decisions,
        categories: Callable[[], Mapping[str, str]],
        keep_s: float = 2.0,
    ) -> None:
        self._categories = categories
        self._settings, self._file = settings, settings.experiment_file
        self._events, self.decisions = events, decisions
        self.ctr = CachedValue(self._ctr, keep_s)
        self.speed = CachedValue(self._speed, keep_s)
        self.standing = CachedValue(self._standing, keep_s)
        self.places = CachedValue(self._places, keep_s)

    @property
    def most_challengers(self) -> int:
        """How many versions of the queue start together."""
        return self._settings.challengers

    def experiment(self) -> Experiment | None:
        """The experiment in its file; None without a file.

        Raises:
            ExperimentError: The file is wrong.
        """
        return load(self._file) if self._file.is_file() else None

    def history(self) -> Sequence[PastTest]:
        """All tests, newest first."""
        return history.read(self._settings.history_file)

    def test_report(self, name: str) -> Path:
        """Where the report of an ended test is, if it was kept."""
        return self._settings.test_reports / f"{name}.html"

    def decision(self) -> Decision | None:
        """The decision that follows from the event log now; None without an experiment.

        What the page shows may be older: a large event log is read in the background, and only for a visitor.
        """
        standing = self.standing.renewed()
        return standing.decision if standing else None

    def running(self) -> Experiment | None:
        """The same, but None if the file is wrong."""
        try:
            return self.experiment()
        except ImmrError:
            return None

    def variants(self) -> Sequence[Variant]:
        """Champion and challengers, if there are any; empty if the file is wrong."""
        experiment = self.running()
        return (experiment.champion, *experiment.challengers) if experiment else ()

    def serving(self) -> Sequence[Variant]:
        """The same without challengers that have left the test."""
        return [variant for variant in self.variants() if not variant.ended]

    def _ctr(self) -> CtrLines:
        size_s, buckets = chart_data.ctr_buckets(self._events)
        running = {variant.model_version: variant.name for variant in self.variants()}
        return chart_data.ctr_lines(size_s, buckets, running)

    def _speed(self) -> Speed:
        variants = self.variants()
        versions = {variant.name: variant.model_version for variant in variants}
        since = self._since()
        bars = chart_data.latency_bars(self._events.latency(since), versions, list(versions))
        funnel = [row for row in self._events.funnel(since) if row.variant not in chart_data.NOT_SHOPPERS]
        places = {name: place for place, name in enumerate(versions)}
        funnel.sort(key=lambda row: places.get(row.variant, len(places)))
        return Speed(bars, funnel)

    def _standing(self) -> Standing | None:
        from immr.readout.decision import DecisionPolicy, decide
        from immr.readout.readout import readout_of_sums

        experiment = self.experiment()
        if experiment is None:
            return None
        result = readout_of_sums(self._sums(experiment), experiment)
        recorded = [each for each in self.decisions() if each.get("experiment") == experiment.name]
        return Standing(
            experiment,
            result,
            decide(result, DecisionPolicy()),
            recorded[-1] if recorded else None,
            load_queue(self._settings.queue_file),
        )

    def _sums(self, experiment: Experiment) -> Sums:
        """Sums of users. For an A/B test the event log computes them, so no impression becomes a Python row."""
        from immr.events.sink import on_disk
        from immr.readout.event_views import split_at_start
        from immr.readout.readout import PRE_PERIOD
        from immr.readout.sums import Rank, sum_up, sum_up_queries

        if experiment.kind == "interleave":  # only rows tell whose items were clicked
            with on_disk(self._events, experiment.started, "impressions", "searches") as files:
                return sum_up(files["impressions"], experiment, files["searches"])
        versions = {
            (side.name, other.model_version) for side in experiment.variants for other in experiment.variants
        }
        start = experiment.started

        def ranks(bots: list[str], end: datetime | None) -> list[Rank]:
            return [
                Rank(each.variant, int(each.of), each.impressions, each.clicks)
                for each in self._events.summed_by("position", start, bots, until=end)
                if (each.variant, each.model_version) in versions
            ]

        with on_disk(self._events, start and start - PRE_PERIOD, "queries", "searches") as files:
            queries, before = split_at_start(files["queries"], experiment, PRE_PERIOD)
            searches = replace(files["searches"], since=start)
            return sum_up_queries(queries, experiment, searches, ranks, before)

    def _places(self) -> Places:
        """CTR by category from the event log, and by rank from the readout."""
        categories = self._categories()
        counted: dict[tuple[str, str], list[int]] = {}
        running = {side.name: side.model_version for side in self.variants()}
        experiment = self.running()
        end = experiment.stopped_at if experiment else None
        for each in self._events.summed_by("item_id", self._since(), until=end) if categories else ():
            if running.get(each.variant) == each.model_version:
                key = (categories.get(str(each.of), "other items"), each.variant)
                sums = counted.setdefault(key, [0, 0])
                sums[0] += each.impressions
                sums[1] += each.clicks
        standing = self.standing()
        ranks = standing.readout.by_rank if standing else ()
        return Places(ranks, counted, list(running))

    def _since(self) -> datetime | None:
        experiment = self.running()
        return experiment.started if experiment else None
