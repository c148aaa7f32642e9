"""Prometheus metrics of the page: the readout, ages, decisions. No label ever names a user."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dashboards.lineage import Lineage
from dashboards.live_experiment import LiveExperiment
from immr.readout.readout import Readout
from immr.readout.sample_ratio import ALPHA

log = logging.getLogger(__name__)


class PageMetrics(Collector):
    """Collects at each scrape, from cached values."""

    def __init__(self, live: LiveExperiment, lineage: Lineage) -> None:
        self._live, self._lineage = live, lineage

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Skip and log a part that fails; keep the others."""
        parts: tuple[Callable[[], list[GaugeMetricFamily]], ...] = (
            self._experiment,
            self._versions,
            self._features,
            self._drift,
            self._decisions,
        )
        for part in parts:
            try:
                yield from part()
            except Exception as error:  # would end the scrape, and with it every alert on the page
                log.warning("metrics are missing: %s: %s", type(error).__name__, error)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: the metrics vary from scrape to scrape."""
        return []

    def _experiment(self) -> list[GaugeMetricFamily]:
        standing = self._live.standing.latest()  # a scrape must not wait
        if standing is None:
            return []
        readout = standing.readout
        users = GaugeMetricFamily(
            "immr_experiment_users",
            "Users since the start, without bots",
            labels=["variant", "model_version"],
        )
        for side in readout.variants:
            users.add_metric([side.name, side.model_version], side.users)
        found = [users]
        if readout.sample_ratio is not None:
            found.append(
                GaugeMetricFamily(
                    "immr_experiment_sample_ratio_p_value",
                    f"Below {ALPHA} the users per variant do not match the shares",
                    value=readout.sample_ratio.p_value,
                )
            )
        return found + _differences(readout)

    def _versions(self) -> list[GaugeMetricFamily]:
        created = GaugeMetricFamily(
            "immr_model_version_created_timestamp_seconds",
            "When a version was registered",
            labels=["role", "model_version"],
        )
        for version in self._lineage.versions():
            for role in version.roles:
                created.add_metric([role, version.id], version.created.timestamp())
        return [created]

    def _features(self) -> list[GaugeMetricFamily]:
        newest = self._lineage.features_from()
        if newest is None:
            return []
        age_s = (datetime.now(UTC) - newest).total_seconds()
        return [
            GaugeMetricFamily("immr_features_age_seconds", "Age of the newest item features", value=age_s)
        ]

    def _drift(self) -> list[GaugeMetricFamily]:
        found = GaugeMetricFamily(
            "immr_drift_found", "1 if recent searches differ from the training data", labels=["what"]
        )
        report = self._lineage.drift()
        for finding in report.findings if report else ():
            if finding.found is not None:
                found.add_metric([finding.what], finding.found)
        return [found]

    def _decisions(self) -> list[GaugeMetricFamily]:
        decisions = GaugeMetricFamily("immr_decisions", "Lines of the promotion log", labels=["action"])
        for action, count in sorted(Counter(str(each["action"]) for each in self._live.decisions()).items()):
            decisions.add_metric([action], count)
        return [decisions]


def _differences(readout: Readout) -> list[GaugeMetricFamily]:
    """Difference in CTR of each challenger, with its always-valid bounds."""
    name, what = "immr_experiment_ctr_difference", "Challenger minus champion"
    found = [
        GaugeMetricFamily(name + bound, what + text, labels=["variant"])
        for bound, text in (
            ("", ""),
            ("_low", ", lower always-valid bound"),
            ("_high", ", upper always-valid bound"),
        )
    ]
    compared = [arm.ctr for arm in readout.arms if arm.ctr is not None]
    for ctr in compared:
        values = (ctr.difference, ctr.always_valid.low, ctr.always_valid.high)
        for family, value in zip(found, values, strict=True):
            family.add_metric([ctr.variant], value)
    return found if compared else []
