"""A readout as a table with one row per metric, for spreadsheets, notebooks and warehouses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.readout.comparison import CTR

if TYPE_CHECKING:
    from immr.readout.readout import Readout
    from immr.readout.segments import Segment

COLUMNS = pa.schema(
    [
        ("experiment", pa.string()),
        ("dimension", pa.string()),  # empty for all users
        ("segment", pa.string()),
        ("metric", pa.string()),
        ("variant", pa.string()),  # the challenger that is compared with the champion
        ("users_champion", pa.int64()),
        ("users_challenger", pa.int64()),
        ("champion", pa.float64()),
        ("challenger", pa.float64()),
        ("difference", pa.float64()),  # challenger − champion
        ("interval_low", pa.float64()),  # for one look; none for segments
        ("interval_high", pa.float64()),
        ("always_valid_low", pa.float64()),  # for every look; for segments, for all of them together
        ("always_valid_high", pa.float64()),
        ("relative_lift", pa.float64()),
        ("p_value", pa.float64()),  # for one look
        ("adjusted_p_value", pa.float64()),  # corrected for the number of segments
        ("differs", pa.bool_()),  # whether the always-valid interval excludes zero
    ]
)
"""Null means: not known, or withheld."""
TOTALS = ("queries", "impressions", "clicks", "orders", "revenue")
"""Of each variant; known even if the comparison is withheld."""

_CHECKED = {
    "answered by another": "fallback_rate",
    "without results": "zero_result_rate",
    "p99 (ms)": "p99_ms",
}
"""Fields of `Health` by the name that `text.check_rows` gives them."""


def rows(readout: Readout, segments: Sequence[Segment] = ()) -> pa.Table:
    """Everything that is printed: comparisons, totals, preference and checks, then the same of segments.

    A total, a rate of the guardrails, or the users by weight has a row like a comparison, without intervals.
    """
    found = [
        *_comparisons(readout),
        *_totals(readout),
        *_preference(readout),
        *_checks(readout),
        *(row for segment in segments for row in _of_segment(readout.experiment, segment)),
    ]
    return pa.Table.from_pylist(found, schema=COLUMNS)


def _comparisons(readout: Readout) -> Iterator[dict[str, object]]:
    per_query = (arm.ctr_per_query for arm in readout.arms)
    for each in (*readout.comparisons, *(each for each in per_query if each is not None)):
        always = each.always_valid
        yield {
            **_sides(readout, each.metric, each.variant, each.champion, each.challenger),
            "difference": each.difference,
            "interval_low": each.interval.low,
            "interval_high": each.interval.high,
            "always_valid_low": always.low,
            "always_valid_high": always.high,
            "relative_lift": each.relative_lift,
            "p_value": each.p_value,
            "differs": not always.low <= 0 <= always.high,
        }


def _totals(readout: Readout) -> Iterator[dict[str, object]]:
    champion, *challengers = readout.variants
    for side in challengers:
        for total in TOTALS:
            values = float(getattr(champion, total)), float(getattr(side, total))
            yield _sides(readout, total, side.name, *values)


def _preference(readout: Readout) -> Iterator[dict[str, object]]:
    """Of an interleaved test, in which users see both versions: queries won by each, and their difference."""
    if (found := readout.preference) is None:
        return
    always = found.always_valid
    yield {
        **_sides(readout, "queries won", CHALLENGER, found.lost, found.won),
        "users_champion": found.users,
        "users_challenger": found.users,
    }
    yield {
        **_sides(readout, "preference", CHALLENGER, None, found.value),
        "users_champion": found.users,
        "users_challenger": found.users,
        "difference": found.value,
        "interval_low": found.interval.low,
        "interval_high": found.interval.high,
        "always_valid_low": always.low,
        "always_valid_high": always.high,
        "p_value": found.p_value,
        "differs": not always.low <= 0 <= always.high,
    }


def _checks(readout: Readout) -> Iterator[dict[str, object]]:
    """Users against the weights, and the guardrails' shares."""
    ratio = readout.sample_ratio
    health = {side.variant: side for side in readout.health}
    for side in readout.variants[1:]:
        names = (CHAMPION, side.name)
        if ratio is not None and side.name in ratio.expected:
            expected = [ratio.expected[name] for name in names]
            yield {**_sides(readout, "users by weight", side.name, *expected), "p_value": ratio.p_value}
        if any(name in health for name in names):
            for metric, field in _CHECKED.items():
                values = [float(getattr(health.get(name), field, math.nan)) for name in names]
                known = [value if math.isfinite(value) else None for value in values]
                yield _sides(readout, metric, side.name, *known)


def _sides(
    readout: Readout, metric: str, variant: str, champion: float | None, challenger: float | None
) -> dict[str, object]:
    """A row about all users."""
    users = {side.name: side.users for side in readout.variants}
    return {
        "experiment": readout.experiment,
        "dimension": "",
        "segment": "",
        "metric": metric,
        "variant": variant,
        "users_champion": users.get(CHAMPION),
        "users_challenger": users.get(variant),
        "champion": champion,
        "challenger": challenger,
    }


def _of_segment(experiment: str, segment: Segment) -> Iterator[dict[str, object]]:
    """A variant's CTR, then its totals."""
    always = segment.always_valid
    lift = (
        segment.difference / segment.champion if segment.difference is not None and segment.champion else None
    )
    about = {
        "experiment": experiment,
        "dimension": segment.dimension,
        "segment": segment.value,
        "variant": segment.variant,
        "users_champion": segment.users[CHAMPION],
        "users_challenger": segment.users[CHALLENGER],
    }
    yield {
        **about,
        "metric": CTR.name,
        "champion": segment.champion,
        "challenger": segment.challenger,
        "difference": segment.difference,
        "always_valid_low": always.low if always else None,
        "always_valid_high": always.high if always else None,
        "relative_lift": lift,
        "p_value": segment.p_value,
        "adjusted_p_value": segment.adjusted_p_value,
        "differs": segment.differs,
    }
    for metric, total in (("impressions", segment.impressions), ("clicks", segment.clicks)):
        yield {**about, "metric": metric, "champion": total[CHAMPION], "challenger": total[CHALLENGER]}
