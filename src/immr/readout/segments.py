"""Segments: the CTR of both variants by country, device, category, day or rank, corrected for their number.

Someone who looks at twenty segments finds a difference in one of them by chance alone. So every segment gets the
always-valid interval of level 1 − α/m (Bonferroni), with m = `MAX_SEGMENTS` per dimension and challenger: a number
that is fixed beforehand, as the segments themselves become more from look to look. A segment "differs" if that
interval excludes zero. For many users, the probability that any segment without a difference does so at any look is
α at most, provided that every look splits by the same dimensions and each has at most `MAX_SEGMENTS` values; of more,
the segments that are shown may change. The p-values, for one look, are corrected by Holm (S. Holm, *A simple
sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.errors import ExperimentError
from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment
from immr.readout.bots import DEFAULT_BOT_POLICY, BotPolicy, mark_bots
from immr.readout.comparison import DEFAULT_LOOK, Interval, Look
from immr.readout.event_views import Relation
from immr.readout.sequential import always_valid_half_width, tuned_rho
from immr.readout.sums import leave_out, open_queries
from immr.readout.user_moments import RatioMoments, rate_difference

if TYPE_CHECKING:
    import duckdb

MAX_SEGMENTS = 20
"""Segments per dimension; those with the fewest users are put together as `OTHER`."""
MIN_USERS = 100
"""Users per variant below which a segment is shown, and not compared: the interval is asymptotic."""
_SHARE = 0.2
"""The share of the planned users at which a segment's interval is narrowest."""
OTHER, UNKNOWN = "(other)", "(unknown)"
_LAST_RANK = 10

_VALUE_OF = {
    "day": "strftime(timezone('UTC', shown.ts), '%Y-%m-%d')",
    "rank": f"if(shown.position > {_LAST_RANK}, 'over {_LAST_RANK}', shown.position::VARCHAR)",
    "category": "categories.category",
}
_SUMS = """WITH per_user AS (
        SELECT shown.variant, shown.user_id, coalesce({value}, '{unknown}') AS value,
            count(*)::DOUBLE AS impressions, (count(*) FILTER (clicked))::DOUBLE AS clicks
        FROM shown ANTI JOIN bots USING (user_id) SEMI JOIN variants USING (variant, model_version)
        LEFT JOIN asked USING (query_id) LEFT JOIN categories USING (item_id)
        GROUP BY ALL),
    largest AS (
        SELECT value FROM per_user GROUP BY value ORDER BY count(DISTINCT user_id) DESC, value LIMIT {limit}),
    named AS (
        SELECT variant, user_id, if(value IN (FROM largest), value, '{other}') AS value,
            sum(impressions) AS impressions, sum(clicks) AS clicks
        FROM per_user GROUP BY ALL)
    SELECT value, variant, count(*) AS users, sum(impressions) AS impressions, sum(clicks) AS clicks,
        sum(impressions * impressions) AS impressions_squares, sum(clicks * clicks) AS clicks_squares,
        sum(impressions * clicks) AS products
    FROM named GROUP BY value, variant ORDER BY value, variant"""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a challenger and the champion. Without enough users in both there is no comparison."""

    dimension: str
    value: str
    variant: str  # the challenger
    users: Mapping[str, int]  # of "champion" and "challenger", as are impressions and clicks
    impressions: Mapping[str, int]
    clicks: Mapping[str, int]
    champion: float | None  # CTR
    challenger: float | None
    difference: float | None = None
    always_valid: Interval | None = None  # for all segments together, at every look
    p_value: float | None = None  # for one look at this segment alone
    adjusted_p_value: float | None = None  # for one look at all segments
    differs: bool | None = None  # None without a comparison

    @property
    def lacks(self) -> str:
        """Why there is no comparison; empty if there is one."""
        if self.differs is not None:
            return ""
        return "too few users" if min(self.users.values()) < MIN_USERS else "too few clicks"

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class SegmentSums:
    """Sums over the users of S segments, each array (2, S): champion, challenger."""

    dimensions: Sequence[str]  # of each segment, as are `values` and `variants`
    values: Sequence[str]
    variants: Sequence[str]  # the challenger
    users: npt.NDArray[np.float64]
    impressions: npt.NDArray[np.float64]
    clicks: npt.NDArray[np.float64]
    impressions_squares: npt.NDArray[np.float64]
    clicks_squares: npt.NDArray[np.float64]
    products: npt.NDArray[np.float64]  # impressions × clicks

    def moments(self, variant: int) -> RatioMoments:
        """Moments of clicks per impression in one variant, (S,)."""
        return RatioMoments.of_sums(
            users=self.users[variant],
            numerator=self.clicks[variant],
            denominator=self.impressions[variant],
            numerator_squares=self.clicks_squares[variant],
            denominator_squares=self.impressions_squares[variant],
            products=self.products[variant],
        )


def segments(
    joined: Relation,
    searches: Relation,
    experiment: Experiment,
    by: Sequence[str],
    categories: pa.Table | None = None,
    look: Look | None = None,
    policy: BotPolicy = DEFAULT_BOT_POLICY,
) -> tuple[Segment, ...]:
    """The CTR by each of the dimensions, without bots and foreign versions.

    Args:
        joined: Impressions with their clicks, from the experiment's start.
        searches: Searches from the same time, with their `context`.
        experiment: Its variants and versions.
        by: Dimensions: names of a context, or `context.RESERVED`.
        categories: `item_id` and `category`, for the dimension of that name.
        look: Confidence, and the planned number of users; by default those of the experiment.
        policy: Which users are bots.

    Raises:
        ExperimentError: No challenger has stayed in the test, it is interleaved, the categories are unknown, or a
            column is missing.
    """
    if not experiment.remaining or experiment.kind == "interleave":
        raise ExperimentError(f"{experiment.name} is not an A/B test of versions: only those have segments")
    if "category" in by and categories is None:
        raise ExperimentError(
            "the items' categories are unknown, as the champion's training set is not in this home: split by "
            "something else, or put items.parquet beside the exported events"
        )
    look = look or Look(planned_users=experiment.planned_users or DEFAULT_LOOK.planned_users)
    nothing = pa.table({name: pa.array([], pa.string()) for name in ("item_id", "category")})
    with open_queries(joined, searches, experiment) as base:
        mark_bots(base, policy)
        leave_out(base, experiment)
        base.register("categories", nothing if categories is None else categories)
        challengers = [side.name for side in experiment.remaining]
        found = [_sums_by(base, dimension, name) for name in challengers for dimension in by]
    return compare_segments(_joined(found), look)


def compare_segments(sums: SegmentSums, look: Look = DEFAULT_LOOK) -> tuple[Segment, ...]:
    """Compare all segments at once, as one family."""
    from scipy.stats import norm

    champion, challenger = sums.moments(0), sums.moments(1)
    difference_S, error_S = rate_difference(champion, challenger)
    compared_S = (sums.users >= MIN_USERS).all(axis=0) & (error_S > 0)
    families = set(zip(sums.variants, sums.dimensions, strict=True))
    alpha = look.alpha / (MAX_SEGMENTS * max(len(families), 1))
    rho = tuned_rho(max(_SHARE * look.planned_users, 1.0), alpha)
    half_S = always_valid_half_width(error_S, np.maximum(sums.users.sum(axis=0), 1), rho, alpha)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_S = 2 * norm.sf(np.abs(difference_S) / error_S)
    adjusted_S = np.full(len(p_S), np.nan)
    adjusted_S[compared_S] = holm(p_S[compared_S])
    found = []
    for at in range(len(sums.values)):
        segment = _segment(sums, at)
        if compared_S[at]:
            difference, half = float(difference_S[at]), float(half_S[at])
            interval = Interval(max(difference - half, -1.0), min(difference + half, 1.0))
            segment = replace(
                segment,
                difference=difference,
                always_valid=interval,
                p_value=float(p_S[at]),
                adjusted_p_value=float(adjusted_S[at]),
                differs=not interval.low <= 0 <= interval.high,
            )
        found.append(segment)
    return tuple(found)


def holm(p_values_M: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Holm's corrected p-values, (M,), in the order of the input."""
    order = np.argsort(p_values_M)
    factors = len(p_values_M) - np.arange(len(p_values_M))
    stepped = np.maximum.accumulate(p_values_M[order] * factors)
    adjusted = np.empty_like(p_values_M)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _segment(sums: SegmentSums, at: int) -> Segment:
    """A segment without its comparison."""

    def counts(values: npt.NDArray[np.float64]) -> dict[str, int]:
        return {CHAMPION: int(values[0, at]), CHALLENGER: int(values[1, at])}

    champion, challenger = (
        float(sums.clicks[side, at] / sums.impressions[side, at]) if sums.impressions[side, at] else None
        for side in (0, 1)
    )
    return Segment(
        dimension=sums.dimensions[at],
        value=sums.values[at],
        variant=sums.variants[at],
        users=counts(sums.users),
        impressions=counts(sums.impressions),
        clicks=counts(sums.clicks),
        champion=champion,
        challenger=challenger,
    )


def _sums_by(base: duckdb.DuckDBPyConnection, dimension: str, challenger: str) -> SegmentSums:
    value = _VALUE_OF.get(dimension, f"nullif(asked.context, '') ->> '$.{dimension}'")
    sql = _SUMS.format(value=value, unknown=UNKNOWN, other=OTHER, limit=MAX_SEGMENTS - 1)
    rows = base.execute(sql).fetchall()
    values = sorted({row[0] for row in rows}, key=_order)
    arrays = np.zeros((6, 2, len(values)))
    for name, variant, *numbers in rows:
        if variant in (CHAMPION, challenger):
            arrays[:, int(variant == challenger), values.index(name)] = numbers
    return SegmentSums([dimension] * len(values), values, [challenger] * len(values), *arrays)


def _order(value: str) -> tuple[int, int, str]:
    """Numbers by size, then words, then the rest that was put together."""
    if value.isdecimal():
        return 0, int(value), value
    return (2 if value in (OTHER, UNKNOWN) else 1), 0, value


def _joined(found: Sequence[SegmentSums]) -> SegmentSums:
    names = ("users", "impressions", "clicks", "impressions_squares", "clicks_squares", "products")
    return SegmentSums(
        [dimension for each in found for dimension in each.dimensions],
        [value for each in found for value in each.values],
        [variant for each in found for variant in each.variants],
        *(np.concatenate([getattr(each, name) for each in found], axis=1) for name in names),
    )
