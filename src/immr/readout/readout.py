"""What the experiment shows so far: CTR by variant and the difference, counted on users.

The primary metric is CTR = clicks per impression, the one that decides; others stand beside it to explain it.
Before any difference is shown, bots are left out and the number of users per variant must fit the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment, Kind, Variant
from immr.readout import users as user_sums
from immr.readout.bots import DEFAULT_BOT_POLICY, BotPolicy, Marked
from immr.readout.comparison import DEFAULT_LOOK, Comparison, Interval, Look, Rate, Ratio, compare, rate
from immr.readout.health import Health
from immr.readout.power import Plan, plan
from immr.readout.preference import Preference, preference
from immr.readout.relations import Relation
from immr.readout.sample_ratio import SampleRatio, sample_ratio
from immr.readout.sums import Sums, sum_up

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

__all__ = ["Comparison", "Interval", "RankCtr", "Rate", "Readout", "SampleRatio", "VariantReadout", "readout"]

_NOTHING_LEFT = 1e-9  # share of a variance that is only rounding
CTR = Ratio("CTR", "clicks", "impressions")
CTR_PER_QUERY = Ratio("CTR per query", "queries_with_click", "queries")
CTR_AT_1 = Ratio("CTR@1", "first_clicks", "first_impressions")
ORDERS_PER_USER = Ratio("orders per user", "orders", None, highest=float("inf"))
ZERO_RESULT_RATE = Ratio("zero-result rate", "queries_without_result", "queries")
WEIGHTED_CTR = Ratio(
    "position-weighted CTR", "weighted_clicks", "impressions", highest=user_sums.MAX_CLICK_WEIGHT
)
CTR_CUPED = Ratio("CTR (CUPED)", "clicks", "impressions", covariates=("clicks_before", "impressions_before"))


@dataclass(frozen=True, slots=True)
class VariantReadout:
    """What one variant's users did. `rates` has the metrics beside the CTR, by name, where they are known."""

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
    rates: Mapping[str, Rate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankCtr:
    """What one position of one variant got."""

    variant: str
    position: int
    impressions: int
    clicks: int
    ctr: float


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
    cuped: Comparison | None = None  # CTR, with what the same users did before the test
    secondary: Mapping[str, Comparison] = field(default_factory=dict)  # explain the CTR; decide nothing
    by_rank: tuple[RankCtr, ...] = ()
    bots: tuple[Marked, ...] = ()  # left out
    health: tuple[Health, ...] = ()  # for the guardrails
    plan: Plan | None = None  # users needed to find the effect that was asked for
    days: float = 0.0  # from the first event to the last
    preference: Preference | None = None  # of an interleaved experiment, instead of comparisons

    @property
    def days_to_go(self) -> float | None:
        """Until the plan's users are there, looking at any time; None where that is not known."""
        if self.plan is None:
            return None
        return self.plan.days(sum(side.users for side in self.variants), self.days)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


def readout(
    joined: Relation,
    experiment: Experiment,
    searches: Relation | None = None,
    confidence: float = 0.95,
    tuned_for_users: int = 2000,
    before: Relation | None = None,
    bot_policy: BotPolicy = DEFAULT_BOT_POLICY,
    effect: float = 0.05,
) -> Readout:
    """Read the experiment out. The unit is the user; bots and fallback exposures are left out.

    Args:
        joined: Impressions with what came of them (`EventLog.joined`, from the experiment's start).
        experiment: Which variants and versions to compare, and their weights.
        searches: `EventLog.searches` from the same time. With it, queries without results count as
            queries, and fallback exposures are known; without it, only by their foreign model version.
        confidence: Of all intervals.
        tuned_for_users: Where the always-valid interval is narrowest, in users of both variants; fix it
            before the test starts.
        before: Impressions of the time before any user saw the challenger (`before_the_test`), for CUPED.
        bot_policy: Who is no shopper.
        effect: The relative lift to plan for.

    Raises:
        ExperimentError: a column is missing, or the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ExperimentError(f"the confidence is {confidence}: give a share between 0 and 1, like 0.95")
    sums = sum_up(joined, experiment, searches, before, bot_policy)
    return readout_of_sums(sums, experiment, Look(confidence, tuned_for_users), effect)


def readout_of_sums(
    sums: Sums, experiment: Experiment, look: Look = DEFAULT_LOOK, effect: float = 0.05
) -> Readout:
    """The statistics: from sums of users to a readout. See `readout`."""
    sides = {side.name: user_sums.aggregate(sums.users, side.name) for side in experiment.variants}
    secondary = _secondary(sums)
    variants = tuple(
        _variant_readout(side, sums.users, sides[side.name], secondary, look.confidence)
        for side in experiment.variants
    )
    ratio = sample_ratio(
        {side.name: side.weight for side in experiment.variants},
        {side.name: side.users for side in variants},
    )
    withheld = _why_withheld(variants, ratio, experiment.kind)
    found = {} if withheld else _comparisons((CTR, CTR_PER_QUERY, *secondary), sides, look)
    return Readout(
        experiment=experiment.name,
        confidence=look.confidence,
        variants=variants,
        sample_ratio=ratio,
        ctr=found.pop(CTR.name, None),
        ctr_per_query=found.pop(CTR_PER_QUERY.name, None),
        withheld=withheld,
        fallback_queries=sums.fallback_queries,
        users_in_both=user_sums.users_in_both(sums.users),
        foreign_queries=sums.foreign_queries,
        cuped=None if withheld else _cuped(sides, look),
        secondary=found,
        by_rank=tuple(RankCtr(*rank, rank.clicks / rank.impressions) for rank in sums.ranks),
        bots=sums.bots,
        health=sums.health,
        plan=_plan(sides, experiment, effect, look),
        days=sums.days,
        preference=_preference(sums, look),
    )


def _preference(sums: Sums, look: Look) -> Preference | None:
    if sums.drafted is None:
        return None
    queries_U, won_U, lost_U = (sums.drafted[name].to_numpy() for name in ("queries", "won", "lost"))
    return preference(queries_U, won_U, lost_U, look)


def before_the_test(joined: pa.Table, experiment: Experiment) -> pa.Table:
    """Impressions of the time before anyone saw the challenger: what it cannot have changed.

    A weight that was raised starts the readout anew, but some had seen the challenger already; so the time
    ends with the challenger's first impression, not with `started` alone.

    Args:
        joined: Impressions from some time before `started` on.
        experiment: As for the readout.
    """
    challenger = experiment.challenger
    if experiment.started is None or challenger is None:
        return joined.slice(0, 0)
    shown = joined.filter(pc.equal(joined["model_version"], challenger.model_version))["ts"]
    first = pc.min(shown).as_py()
    end = experiment.started if first is None else min(first, experiment.started)
    return joined.filter(pc.less(joined["ts"], pa.scalar(end, joined["ts"].type)))


def _plan(sides: Mapping[str, Aggregates], experiment: Experiment, effect: float, look: Look) -> Plan | None:
    challenger = experiment.challenger
    if challenger is None or not 0 < challenger.weight < 1 or experiment.kind == "interleave":
        return None
    return plan(CTR, sides[CHAMPION], effect, share=challenger.weight, look=look)


def _secondary(sums: Sums) -> tuple[Ratio, ...]:
    """Metrics beside the CTR, as far as what they need is known."""
    positions_known = bool(sums.ranks)
    known = [(CTR_AT_1, positions_known), (ORDERS_PER_USER, True), (WEIGHTED_CTR, positions_known)]
    known.append((ZERO_RESULT_RATE, sums.searches_known))
    return tuple(ratio for ratio, is_known in known if is_known)


def _comparisons(
    ratios: Sequence[Ratio], sides: Mapping[str, Aggregates], look: Look
) -> dict[str, Comparison]:
    found = {ratio.name: compare(ratio, sides[CHAMPION], sides[CHALLENGER], look) for ratio in ratios}
    return {name: comparison for name, comparison in found.items() if comparison is not None}


def _cuped(sides: Mapping[str, Aggregates], look: Look) -> Comparison | None:
    """None where no user is known from before, or they clicked all alike then, or just as they do now."""
    names = ("clicks", "impressions", "clicks_before", "impressions_before")
    known = all("clicks_before" in side.mean_ for side in sides.values())
    if not known or not all(side.mean("clicks_before") for side in sides.values()):
        return None
    pooled = sides[CHAMPION] + sides[CHALLENGER]
    variance, before = pooled.ratio_var(*names[:2]), pooled.ratio_var(*names[2:])
    if not before > 0 or variance - pooled.ratio_cov(*names) ** 2 / before < _NOTHING_LEFT * variance:
        return None
    return compare(CTR_CUPED, sides[CHAMPION], sides[CHALLENGER], look)


def _variant_readout(
    variant: Variant,
    users: pa.Table,
    sums: Aggregates,
    secondary: Sequence[Ratio],
    confidence: float,
) -> VariantReadout:
    of_variant = users.filter(pc.equal(users["variant"], variant.name))
    counts = ("queries", "queries_with_click", "impressions", "clicks", "orders")
    totals = {count: int(pc.sum(of_variant[count]).as_py() or 0) for count in counts}
    rates = {ratio.name: rate(ratio, sums, confidence) for ratio in secondary}
    return VariantReadout(
        name=variant.name,
        model_version=variant.model_version,
        users=of_variant.num_rows,
        ctr=rate(CTR, sums, confidence),
        ctr_per_query=rate(CTR_PER_QUERY, sums, confidence),
        rates={metric: value for metric, value in rates.items() if value is not None},
        **totals,
    )


def _why_withheld(variants: Sequence[VariantReadout], ratio: SampleRatio | None, kind: Kind) -> str | None:
    if len(variants) < 2:
        return "there is no challenger to compare: deploy one"
    if kind == "interleave":
        return "the challenger's users see the items of both versions, so which they prefer is all it can say"
    if ratio is not None and not ratio.ok:
        return ratio.sentence
    for variant in variants:
        if variant.users < 2 or variant.impressions == 0:
            return (
                f"the {variant.name} has {variant.users} users with {variant.impressions} impressions: wait"
            )
    if all(variant.ctr is None or variant.ctr.interval is None for variant in variants):
        return "the users' clicks do not vary yet, so no interval can be given: wait"
    return None
