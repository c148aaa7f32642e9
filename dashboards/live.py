"""The running experiment as the page's sections need it: asked often, computed rarely."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dashboards import figures
from dashboards.charts import Bar
from dashboards.figures import CtrLines, Kept
from immr.errors import ImmrError
from immr.events.aggregates import CtrBucket, Funnel
from immr.events.port import EventLog
from immr.experiment.definition import Experiment, Variant, load

if TYPE_CHECKING:
    from immr.experiment.decision import Decision
    from immr.experiment.readout import Readout

Decisions = Callable[[], Sequence[Mapping[str, Any]]]
"""The promotion log, oldest first: mappings with `ts`, `action`, `reason`, `champion`, `challenger`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the experiment stands: the readout, what follows from it now, and what was last written down."""

    experiment: Experiment
    readout: Readout
    decision: Decision
    recorded: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Speed:
    """How long searches took, and what became of them, by variant."""

    bars: Sequence[Bar]
    funnel: Sequence[Funnel]


class Live:
    """Reads the experiment file, the event log and the promotion log.

    Args:
        experiment_file: the running experiment; it need not be there.
        events: the event log.
        decisions: gives the promotion log.
        keep_s: how long an answer is kept at least.
    """

    def __init__(
        self, experiment_file: Path, events: EventLog, decisions: Decisions, keep_s: float = 2.0
    ) -> None:
        self._file, self._events, self.decisions = experiment_file, events, decisions
        self.ctr = Kept(self._ctr, keep_s)
        self.speed = Kept(self._speed, keep_s)
        self.standing = Kept(self._standing, keep_s)

    def experiment(self) -> Experiment | None:
        """The experiment as its file has it now; None where there is no file.

        Raises:
            ExperimentError: there is a file, and it is wrong.
        """
        return load(self._file) if self._file.is_file() else None

    def variants(self) -> Sequence[Variant]:
        """The champion and the challenger, so far as there are any; none where the file is wrong."""
        try:
            experiment = self.experiment()
        except ImmrError:
            return ()
        if experiment is None:
            return ()
        challenger = experiment.challenger
        return (experiment.champion, challenger) if challenger else (experiment.champion,)

    def _ctr(self) -> CtrLines:
        def ask(bucket_s: int, since: datetime | None) -> list[CtrBucket]:
            return self._events.ctr_over_time(bucket_s, since)

        size_s, buckets = figures.ctr_buckets(ask)
        running = {variant.model_version: variant.name for variant in self.variants()}
        return figures.ctr_lines(size_s, buckets, running)

    def _speed(self) -> Speed:
        variants = self.variants()
        versions = {variant.name: variant.model_version for variant in variants}
        since = self._since()
        bars = figures.latency_bars(self._events.latency(since), versions, list(versions))
        funnel = [row for row in self._events.funnel(since) if row.variant not in figures.NOT_SHOPPERS]
        places = {name: place for place, name in enumerate(versions)}
        funnel.sort(key=lambda row: places.get(row.variant, len(places)))
        return Speed(bars, funnel)

    def _standing(self) -> Standing | None:
        from immr.experiment.decision import DecisionPolicy, decide
        from immr.experiment.readout import readout

        experiment = self.experiment()
        if experiment is None:
            return None
        since = experiment.started
        result = readout(self._events.joined(since), experiment, self._events.searches(since))
        recorded = self.decisions()
        return Standing(
            experiment, result, decide(result, DecisionPolicy()), recorded[-1] if recorded else None
        )

    def _since(self) -> datetime | None:
        try:
            experiment = self.experiment()
        except ImmrError:
            return None
        return experiment.started if experiment else None
