"""What the experiment shows so far: CTR by variant and the difference, counted on users.

The primary metric is CTR = clicks per impression; the share of queries with a click stands beside it. Both
are ratios over users who come back, so their variance is the delta method's on users (A. Deng, U. Knoblich,
J. Lu, *Applying the Delta Method in Metric Analytics*, KDD 2018), as tea-tasting has it. Before any
difference is shown, the number of users per variant must fit the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment
from immr.experiment.sequential import always_valid_half_width, tuned_rho
from immr.experiment.users import (
    COUNTS,
    aggregate,
    exposures,
    of_experiment,
    per_user,
    users_in_both,
    without_fallback,
)

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

_SAMPLE_RATIO_ALPHA = 0.001


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio in one variant; no interval where nothing, or everything, was clicked, or with one user."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class VariantReadout:
    """What one variant's users did."""

    name: str
    model_version: str
    users: int
    queries: int
    queries_with_click: int
    impressions: int
    clicks: int
    orders: int
    ctr: Rate | None  # clicks per impression
    ctr_per_query: Rate | None  # share of queries with a click


@dataclass(frozen=True, slots=True)
class Comparison:
    """Challenger minus champion, and the lift as a share of the champion's value."""

    metric: str
    champion: float
    challenger: float
    difference: float
    interval: Interval  # for one look, at a time chosen before
    always_valid: Interval  # for any number of looks
    relative_lift: float | None  # None where the champion is at zero
    relative_interval: Interval | None
    p_value: float


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Do the users per variant fit the weights? If not, something other than the models differs."""

    observed: Mapping[str, int]
    expected: Mapping[str, float]
    p_value: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Readout:
    """The experiment so far; `withheld` says why there is no comparison."""

    experiment: str
    confidence: float
    variants: tuple[VariantReadout, ...]
    sample_ratio: SampleRatio | None
    ctr: Comparison | None
    ctr_per_query: Comparison | None
    withheld: str | None
    fallback_queries: int  # left out: another variant answered
    users_in_both: int  # seen in both variants, counted in each: weights changed, or assignment is not sticky
    foreign_queries: int  # left out: variant and model version are not this experiment's

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


def readout(
    joined: pa.Table,
    experiment: Experiment,
    searches: pa.Table | None = None,
    confidence: float = 0.95,
    tuned_for_users: int = 2000,
) -> Readout:
    """Read the experiment out. The unit is the user; fallback exposures are left out.

    Args:
        joined: Impressions with what came of them (`EventLog.joined`, from the experiment's start).
        experiment: Which variants and versions to compare, and their weights.
        searches: `EventLog.searches` from the same time. With it, queries without results count as
            queries, and fallback exposures are known; without it, only by their foreign model version.
        confidence: Of all intervals.
        tuned_for_users: Where the always-valid interval is narrowest, in users of both variants; fix it
            before the test starts.

    Raises:
        ExperimentError: a column is missing, or the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ExperimentError(f"the confidence is {confidence}: give a share between 0 and 1, like 0.95")
    rows = exposures(joined, searches)
    rows, fallback_queries = without_fallback(rows, searches)
    rows, foreign_queries = of_experiment(rows, experiment)
    users = per_user(rows)
    by_variant = {variant.name: aggregate(users, variant.name) for variant in experiment.variants}
    variants = tuple(
        _variant_readout(variant.name, variant.model_version, users, by_variant[variant.name], confidence)
        for variant in experiment.variants
    )
    sample_ratio = _sample_ratio(experiment, {side.name: side.users for side in variants})
    withheld = _why_withheld(variants, sample_ratio)
    ctr = ctr_per_query = None
    if withheld is None:
        champion, challenger = by_variant[CHAMPION], by_variant[CHALLENGER]
        look = (champion, challenger, confidence, tuned_for_users)
        ctr = _compare("clicks", "impressions", "CTR", *look)
        ctr_per_query = _compare("queries_with_click", "queries", "CTR per query", *look)
    return Readout(
        experiment=experiment.name,
        confidence=confidence,
        variants=variants,
        sample_ratio=sample_ratio,
        ctr=ctr,
        ctr_per_query=ctr_per_query,
        withheld=withheld,
        fallback_queries=fallback_queries,
        users_in_both=users_in_both(users),
        foreign_queries=foreign_queries,
    )


def _variant_readout(
    name: str, model_version: str, users: pa.Table, aggregates: Aggregates, confidence: float
) -> VariantReadout:
    of_variant = users.filter(pc.equal(users["variant"], name))
    totals = {count: int(pc.sum(of_variant[count]).as_py() or 0) for count in COUNTS}
    return VariantReadout(
        name=name,
        model_version=model_version,
        users=of_variant.num_rows,
        ctr=_rate(aggregates, "clicks", "impressions", confidence),
        ctr_per_query=_rate(aggregates, "queries_with_click", "queries", confidence),
        **totals,
    )


def _rate(aggregates: Aggregates, numerator: str, denominator: str, confidence: float) -> Rate | None:
    if not aggregates.mean(denominator):
        return None
    value = aggregates.mean(numerator) / aggregates.mean(denominator)
    error = _standard_error(aggregates, numerator, denominator)
    if error == 0:
        return Rate(value, None)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Rate(value, Interval(max(value - half, 0.0), min(value + half, 1.0)))


def _standard_error(aggregates: Aggregates, numerator: str, denominator: str) -> float:
    """Of a ratio of means over users, by the delta method."""
    variance = aggregates.ratio_var(numerator, denominator) / aggregates.count()
    return math.sqrt(variance) if variance > 1e-20 else 0.0  # below: rounding of what is exactly zero


def _sample_ratio(experiment: Experiment, observed: Mapping[str, int]) -> SampleRatio | None:
    """Chi-square of users against weights; None where there is nothing to compare."""
    from scipy.stats import chisquare

    total = sum(observed.values())
    expected = {variant.name: variant.weight * total for variant in experiment.variants}
    weighted = [name for name, users in expected.items() if users > 0]
    if any(observed[name] and not expected[name] for name in expected):
        p_value = 0.0  # users where none can be
    elif len(weighted) < 2:
        return None
    else:
        test = chisquare([observed[name] for name in weighted], [expected[name] for name in weighted])
        p_value = float(test.pvalue)
    return SampleRatio(dict(observed), expected, p_value, p_value >= _SAMPLE_RATIO_ALPHA)


def _why_withheld(variants: Sequence[VariantReadout], sample_ratio: SampleRatio | None) -> str | None:
    if len(variants) < 2:
        return "there is no challenger to compare: deploy one"
    if sample_ratio is not None and not sample_ratio.ok:
        counts = ", ".join(
            f"{name} has {sample_ratio.observed[name]} users where {expected:.0f} are expected"
            for name, expected in sample_ratio.expected.items()
        )
        return (
            f"the users do not fit the weights ({counts}; p = {sample_ratio.p_value:.2g}). Likely causes: "
            "one variant fails or falls back more often, its events get lost, bots, or weights that changed "
            "during the test (then set `started` anew and read out from there)"
        )
    for variant in variants:
        if variant.users < 2 or variant.impressions == 0:
            return (
                f"the {variant.name} has {variant.users} users with {variant.impressions} impressions: wait"
            )
    if all(variant.ctr is None or variant.ctr.interval is None for variant in variants):
        return "the users' clicks do not vary yet, so no interval can be given: wait"
    return None


def _compare(
    numerator: str,
    denominator: str,
    metric: str,
    champion: Aggregates,
    challenger: Aggregates,
    confidence: float,
    tuned_for_users: int,
) -> Comparison | None:
    from tea_tasting.metrics import RatioOfMeans

    errors = [_standard_error(side, numerator, denominator) for side in (champion, challenger)]
    if not any(errors):
        return None
    ratio = RatioOfMeans(
        numerator,
        denominator,
        confidence_level=confidence,
        alternative="two-sided",
        equal_var=False,
        use_t=False,
    )
    found = ratio.analyze_aggregates(champion, challenger)
    alpha = 1 - confidence
    users = champion.count() + challenger.count()
    half = always_valid_half_width(math.hypot(*errors), users, tuned_rho(tuned_for_users, alpha), alpha)
    relative = Interval(float(found.rel_effect_size_ci_lower), float(found.rel_effect_size_ci_upper))
    difference = float(found.effect_size)
    lift_known = float(found.control) > 0
    interval_known = lift_known and math.isfinite(relative.low) and math.isfinite(relative.high)
    return Comparison(
        metric=metric,
        champion=float(found.control),
        challenger=float(found.treatment),
        difference=difference,
        interval=Interval(float(found.effect_size_ci_lower), float(found.effect_size_ci_upper)),
        always_valid=Interval(max(difference - half, -1.0), min(difference + half, 1.0)),
        relative_lift=float(found.rel_effect_size) if lift_known else None,
        relative_interval=relative if interval_known else None,
        p_value=float(found.pvalue),
    )


def as_rows(readout: Readout) -> list[tuple[str, ...]]:
    """The readout as a table to print: header, one row per variant, and the difference where it is known."""
    rows: list[tuple[str, ...]] = [
        ("variant", "version", "users", "queries", "impressions", "clicks", "orders", "CTR", "CTR per query")
    ]
    for side in readout.variants:
        counts = (side.users, side.queries, side.impressions, side.clicks, side.orders)
        rates = (_rate_text(side.ctr), _rate_text(side.ctr_per_query))
        rows.append((side.name, side.model_version, *(f"{count:,}" for count in counts), *rates))
    if readout.ctr is not None:
        found = (readout.ctr, readout.ctr_per_query)
        one_look = [_difference_text(each, each.interval) if each else "–" for each in found]
        always = [_difference_text(each, each.always_valid) if each else "–" for each in found]
        blank = ("",) * 6
        rows += [("difference", *blank, *one_look), ("at every look", *blank, *always)]
    return rows


def _rate_text(rate: Rate | None) -> str:
    if rate is None:
        return "–"
    between = f" ({rate.interval.low:.2%} – {rate.interval.high:.2%})" if rate.interval else ""
    return f"{rate.value:.2%}{between}"


def _difference_text(comparison: Comparison, interval: Interval) -> str:
    points = [100 * value for value in (comparison.difference, interval.low, interval.high)]
    return "{:+.2f} points ({:+.2f} – {:+.2f})".format(*points)
