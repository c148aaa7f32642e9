"""The state of an experiment: CTR by variant, the difference with its intervals, and what explains it.

The primary metric is CTR, clicks per impression; it alone decides. Bots are left out first, and the number of
users per variant has to match the shares before any difference is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION, HOLDOUT, Experiment, Variant
from immr.machine.wording import counted
from immr.readout import user_moments
from immr.readout.bots import DEFAULT_BOT_POLICY, BotPolicy, Marked
from immr.readout.comparison import (
    CTR,
    CTR_AT_1,
    CTR_OWN_ANSWERS,
    CTR_PER_QUERY,
    DEFAULT_PLANNED_USERS,
    ORDERS_PER_USER,
    WEIGHTED_CTR,
    ZERO_RESULT_RATE,
    Arm,
    Comparison,
    Look,
    Rate,
    Ratio,
    compare_arm,
    rate,
)
from immr.readout.event_views import Relation
from immr.readout.power import Plan, plan_of
from immr.readout.preference import Preference, preference
from immr.readout.revenue import ORDER_RATE, REVENUE_CUPED, REVENUE_PER_USER, Revenue, cap_revenue
from immr.readout.sample_ratio import SampleRatio, bots_ratio, users_ratio
from immr.readout.sums import Sums, sum_up
from immr.readout.variant_health import Health
from immr.types import in_a_sentence

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

PRE_PERIOD = timedelta(days=14)
"""CUPED uses this much of the time before the experiment, and so does the plan at its start."""
PLANNED_EFFECT = 0.05
"""The relative lift that an experiment is planned to find."""
_GROUPS = {CHAMPION: "holdout", CHALLENGER: "group of all others"}  # in the readout of a holdout


@dataclass(frozen=True, slots=True)
class VariantReadout:
    """One variant's users and their behaviour."""

    name: str
    model_version: str
    users: int
    queries: int
    queries_with_click: int
    impressions: int
    clicks: int
    orders: int
    revenue: float  # of all orders with an amount, not capped
    ctr: Rate | None  # clicks per impression
    ctr_per_query: Rate | None  # share of queries with a click
    rates: Mapping[str, Rate] = field(default_factory=dict)  # secondary metrics by name
    ended: bool = False  # a challenger that has left the test


@dataclass(frozen=True, slots=True)
class RankCtr:
    """CTR at one position in one variant."""

    variant: str
    position: int
    impressions: int
    clicks: int
    ctr: float


@dataclass(frozen=True, slots=True)
class Readout:
    """The experiment so far. `withheld` is the reason why there is no comparison."""

    experiment: str
    confidence: float  # of all comparisons of one metric together
    variants: tuple[VariantReadout, ...]
    sample_ratio: SampleRatio | None
    withheld: str | None  # why no challenger is compared
    fallback_queries: int  # answered by the other variant; they count for the assigned one
    users_in_both: int  # seen in both variants and counted in each: assignment was not sticky
    foreign_queries: int  # left out: the model version is not part of the experiment
    arms: tuple[Arm, ...] = ()  # the challengers that can be compared
    by_rank: tuple[RankCtr, ...] = ()
    bots: tuple[Marked, ...] = ()  # left out
    health: tuple[Health, ...] = ()  # for the guardrails
    plan: Plan | None = None  # users of the champion and one challenger needed to find the requested effect
    days: float = 0.0  # from the first event to the last
    preference: Preference | None = None  # of an interleaved experiment, instead of comparisons; or withheld
    revenue: Revenue | None = None  # None if no order has an amount
    min_days: float = 0.0  # which the test lasts before the champion is replaced or confirmed

    def arm(self, variant: str) -> Arm | None:
        """The comparison of this challenger; None if it is withheld."""
        return next((each for each in self.arms if each.variant == variant), None)

    @property
    def ctr(self) -> Comparison | None:
        """CTR of the first challenger, the only one of an A/B test; None if it is withheld."""
        return self.arms[0].ctr if self.arms else None

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All metrics of all challengers, as charts and tables show them; empty if withheld."""
        return tuple(each for arm in self.arms for each in arm.comparisons)

    @property
    def pair_users(self) -> int:
        """Users of the champion and of its smallest remaining challenger, as the plan counts them."""
        champion, *challengers = self.variants
        return champion.users + min((each.users for each in challengers if not each.ended), default=0)

    @property
    def days_to_go(self) -> float | None:
        """Days until enough users for the plan have arrived, and the minimum duration is over.

        None without a plan, and in the first day of events, as hours of a day differ too much to tell the pace.
        """
        if self.plan is None or self.days < 1:
            return None
        days = self.plan.days(self.pair_users, self.days)
        return None if days is None else max(days, self.min_days_left)

    @property
    def min_days_left(self) -> float:
        """Days until the minimum duration is over, in which the champion is neither replaced nor confirmed."""
        return max(self.min_days - self.days, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        shown = replace(self, health=())
        return asdict(shown) | {"health": [each.to_json() for each in self.health]}


def readout(
    joined: Relation,
    experiment: Experiment,
    searches: Relation | None = None,
    confidence: float = 0.95,
    before: Relation | None = None,
    bot_policy: BotPolicy = DEFAULT_BOT_POLICY,
    effect: float = PLANNED_EFFECT,
) -> Readout:
    """Read the experiment out, with the user as the unit.

    Args:
        joined: Impressions with their clicks and orders (`EventLog.joined` from the experiment's start).
        experiment: The variants to compare, their weights, and the planned number of users.
        searches: `EventLog.searches` from the same time. With it, searches without results count as
            queries, and the variants' health is known.
        confidence: Of all intervals.
        before: Impressions from before any user saw the challenger (`split_at_start`), for CUPED.
        bot_policy: Which users are bots.
        effect: The relative lift to plan for.

    Raises:
        ExperimentError: a column is missing, or the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ExperimentError(f"the confidence is {confidence}: give a share between 0 and 1, like 0.95")
    return readout_of_sums(
        sum_up(joined, experiment, searches, before, bot_policy), experiment, confidence, effect
    )


def readout_of_sums(
    sums: Sums, experiment: Experiment, confidence: float = 0.95, effect: float = PLANNED_EFFECT
) -> Readout:
    """The statistical part of `readout`: from sums per user to a readout."""
    whole = Look(confidence, experiment.planned_users or DEFAULT_PLANNED_USERS)
    look = whole.shared_by(len(experiment.challengers))
    capped, revenue = cap_revenue(sums.users)
    sides = {side.name: user_moments.aggregate(capped, side.name) for side in experiment.variants}
    secondary = _secondary(sums, revenue)
    variants = tuple(
        _variant_readout(side, sums.users, sides[side.name], secondary, confidence)
        for side in experiment.variants
    )
    ratio = users_ratio(experiment, {side.name: side.users for side in variants})
    bots = bots_ratio(experiment, sums.bots)
    sound = all(each is None or each.ok for each in (ratio, bots))
    preferred = _preference(sums, whole) if sound else None
    withheld = _why_withheld(variants, ratio, bots, experiment, preferred is not None)
    return Readout(
        experiment=experiment.name,
        confidence=confidence,
        variants=variants,
        sample_ratio=ratio,
        withheld=withheld,
        fallback_queries=sums.fallback_queries,
        users_in_both=user_moments.users_in_both(sums.users),
        foreign_queries=sums.foreign_queries,
        arms=() if withheld else tuple(_arms(experiment, variants, sides, secondary, look)),
        by_rank=tuple(RankCtr(*rank, rank.clicks / rank.impressions) for rank in sums.ranks),
        bots=sums.bots,
        health=sums.health,
        plan=plan_of(experiment, CTR, sides[CHAMPION], effect, look),
        days=sums.days,
        preference=preferred,
        revenue=revenue,
        min_days=experiment.min_days,
    )


def _arms(
    experiment: Experiment,
    variants: Sequence[VariantReadout],
    sides: Mapping[str, Aggregates],
    secondary: Sequence[Ratio],
    look: Look,
) -> Iterator[Arm]:
    """The challengers with enough users. One that has left the test before its end is excluded, also afterwards: its
    users came earlier than many of the champion's."""
    champion, *challengers = variants
    for side in challengers:
        if side.ended or _why_incomparable(experiment, (champion, side)):
            continue
        yield compare_arm(side.name, side.model_version, sides[CHAMPION], sides[side.name], secondary, look)


def _preference(sums: Sums, look: Look) -> Preference | None:
    if sums.drafted is None:
        return None
    queries_U, won_U, lost_U = (sums.drafted[name].to_numpy() for name in ("queries", "won", "lost"))
    return preference(queries_U, won_U, lost_U, look)


def _secondary(sums: Sums, revenue: Revenue | None) -> tuple[Ratio, ...]:
    """Metrics that explain the CTR, as far as their inputs are known."""
    positions_known = bool(sums.ranks)
    known = (
        (CTR_OWN_ANSWERS, sums.fallback_queries > 0),
        (CTR_AT_1, positions_known),
        (ORDERS_PER_USER, True),
        (ORDER_RATE, True),
        (REVENUE_PER_USER, revenue is not None),
        (REVENUE_CUPED, revenue is not None),
        (WEIGHTED_CTR, positions_known),
        (ZERO_RESULT_RATE, sums.searches_known),
    )
    return tuple(ratio for ratio, is_known in known if is_known)


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
    rates = {ratio.name: rate(ratio, sums, confidence) for ratio in secondary if ratio.covariates is None}
    return VariantReadout(
        name=variant.name,
        model_version=variant.model_version,
        users=of_variant.num_rows,
        ctr=rate(CTR, sums, confidence),
        ctr_per_query=rate(CTR_PER_QUERY, sums, confidence),
        revenue=float(pc.sum(of_variant["revenue"]).as_py() or 0),
        rates={metric: value for metric, value in rates.items() if value is not None},
        ended=variant.ended,
        **totals,
    )


def _why_withheld(
    variants: Sequence[VariantReadout],
    ratio: SampleRatio | None,
    bots: SampleRatio | None,
    experiment: Experiment,
    preferred: bool,
) -> str | None:
    champion, *challengers = variants
    if not challengers:
        return "there is no challenger to compare; deploy one"
    challengers = [side for side in challengers if not side.ended]
    if not challengers:
        return "all challengers have left the test"
    if ratio is not None and not ratio.ok:
        return ratio.sentence
    if bots is not None and not bots.ok:
        return bots.sentence_of_bots
    if experiment.kind == "interleave":
        return (
            "interleaved users see the items of both versions, so only their preference can be measured"
            + ("" if preferred else ", and too few of them have clicked for that")
        )
    reasons = [_why_incomparable(experiment, (champion, side)) for side in challengers]
    return reasons[0] if all(reasons) else None


def _why_incomparable(experiment: Experiment, sides: Sequence[VariantReadout]) -> str | None:
    for side in sides:
        if side.users < 2 or side.impressions == 0:
            name = _GROUPS[side.name] if experiment.name == HOLDOUT else side.name
            seen = f"{counted(side.users, 'user')} with {counted(side.impressions, 'impression')}"
            return f"{in_a_sentence(name)} has {f'only {seen}' if side.users else 'no users'} so far"
    if all(side.ctr is None or side.ctr.interval is None for side in sides):
        return "all users click alike so far, so no interval can be computed"
    return None
