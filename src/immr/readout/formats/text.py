"""A readout as rows of text, for printing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from immr.experiment.definition import CHALLENGER, CHAMPION, Experiment, Kind
from immr.readout.comparison import Comparison, Interval, Rate
from immr.readout.decision import Decision
from immr.readout.readout import Readout
from immr.readout.segments import Segment

TITLES: Mapping[Kind, str] = {
    "ab": "A/B readout",
    "interleave": "Interleaved test: the challenger's users see the items of both versions",
}


def headline(experiment: Experiment, decision: Decision) -> str:
    """What to do, in a word or two; if no test is running, its state, because nothing waits for a decision."""
    if not experiment.challengers:
        return "no test"
    return decision.action if experiment.state == "running" else experiment.state


def verdicts(experiment: Experiment, decision: Decision) -> list[tuple[str, str]]:
    """The headline with its reason; of several challengers with different verdicts, one for each."""
    found = decision.verdicts if experiment.state == "running" else ()
    if len({each.reason for each in found}) < 2:
        return [(headline(experiment, decision), decision.reason)]
    version_of = {each.name: each.model_version for each in experiment.challengers}
    return [(f"{each.action} ({version_of[each.challenger]})", each.reason) for each in found]


def as_rows(readout: Readout) -> list[tuple[str, ...]]:
    """Header, one row per variant, and the difference with both intervals if it is known."""
    rows: list[tuple[str, ...]] = [
        ("variant", "version", "users", "queries", "impressions", "clicks", "orders", "CTR", "CTR per query")
    ]
    for side in readout.variants:
        counts = (side.users, side.queries, side.impressions, side.clicks, side.orders)
        rates = (_rate_text(side.ctr), _rate_text(side.ctr_per_query))
        name = f"{side.name} (ended)" if side.ended else side.name
        rows.append((name, side.model_version, *(f"{count:,}" for count in counts), *rates))
    for arm in readout.arms:
        found = (arm.ctr, arm.ctr_per_query)
        one_look = [_difference_text(each, each.interval) if each else "–" for each in found]
        always = [_difference_text(each, each.always_valid) if each else "–" for each in found]
        name = "" if len(readout.variants) == 2 else f"{arm.variant}: "
        blank = ("",) * 6
        rows += [(f"{name}difference", *blank, *one_look), (f"{name}at every look", *blank, *always)]
    return rows


def _rate_text(rate: Rate | None) -> str:
    if rate is None:
        return "–"
    between = f" ({rate.interval.low:.2%} – {rate.interval.high:.2%})" if rate.interval else ""
    return f"{rate.value:.2%}{between}"


def _difference_text(comparison: Comparison, interval: Interval) -> str:
    points = [100 * value for value in (comparison.difference, interval.low, interval.high)]
    return "{:+.2f} points ({:+.2f} – {:+.2f})".format(*points)


def preference_rows(readout: Readout) -> list[tuple[str, ...]]:
    """The preference of an interleaved experiment; only the header for an A/B test."""
    rows: list[tuple[str, ...]] = [
        ("users", "queries", "won by the challenger", "lost", "preference", "at every look", "p")
    ]
    if (found := readout.preference) is not None:
        one, always = found.interval, found.always_valid
        rows.append(
            (
                *(f"{count:,}" for count in (found.users, found.queries, found.won, found.lost)),
                f"{found.value:+.3f} ({one.low:+.3f} – {one.high:+.3f})",
                f"{always.low:+.3f} – {always.high:+.3f}",
                f"{found.p_value:.2g}",
            )
        )
    return rows


def secondary_rows(readout: Readout) -> list[tuple[str, str, str, str, str]]:
    """Secondary metrics: name, champion, challenger, difference with interval, and lift."""
    rows = [("metric", "champion", "challenger", "difference", "lift")]
    for each in readout.comparisons:
        lift = "–" if each.relative_lift is None else f"{each.relative_lift:+.1%}"
        if each.relative_interval is not None:
            lift += f" ({each.relative_interval.low:+.1%} – {each.relative_interval.high:+.1%})"
        difference = f"{each.difference:+.4f} ({each.interval.low:+.4f} – {each.interval.high:+.4f})"
        rows.append(
            (metric_name(each, readout), f"{each.champion:.4f}", f"{each.challenger:.4f}", difference, lift)
        )
    return rows


def holdout_rows(readout: Readout) -> list[tuple[str, str, str, str]]:
    """A holdout's readout: its users and all others, and their difference with the interval for every look."""
    held_out, others = readout.variants
    rows = [
        ("", "holdout", "all others", "others − holdout, at every look"),
        ("users", f"{held_out.users:,}", f"{others.users:,}", ""),
        ("queries", f"{held_out.queries:,}", f"{others.queries:,}", ""),
    ]
    for each in readout.comparisons:
        low, high = each.always_valid.low, each.always_valid.high
        difference = f"{each.difference:+.4f} ({low:+.4f} – {high:+.4f})"
        rows.append((each.metric, f"{each.champion:.4f}", f"{each.challenger:.4f}", difference))
    return rows


def check_rows(readout: Readout) -> list[tuple[str, ...]]:
    """The checks beside the metrics, one row per variant: users against weights, and the guardrails' shares.

    A variant without searches has dashes.
    """
    ratio = readout.sample_ratio
    health = {side.variant: side for side in readout.health}
    rows: list[tuple[str, ...]] = [
        ("variant", "users by weight", "users", "answered by another", "without results", "p99")
    ]
    if len(readout.variants) == 1 and not health:
        return rows
    for variant in readout.variants:
        expected = f"{ratio.expected[variant.name]:,.0f}" if ratio and variant.name in ratio.expected else "–"
        side = health.get(variant.name)
        if side is None:
            rows.append((variant.name, expected, f"{variant.users:,}", "–", "–", "–"))
            continue
        shares = f"{side.fallback_rate:.1%}", f"{side.zero_result_rate:.1%}"
        p99 = f"{side.p99_ms:,.0f} ms" if math.isfinite(side.p99_ms) else "–"
        rows.append((variant.name, expected, f"{side.users:,}", *shares, p99))
    return rows


def metric_name(comparison: Comparison, readout: Readout) -> str:
    """The metric; of several challengers, with the one that is compared."""
    return comparison.metric if len(readout.variants) == 2 else f"{comparison.metric}, {comparison.variant}"


def segment_rows(segments: Sequence[Segment]) -> list[tuple[str, ...]]:
    """Segments: users and CTR of both variants, the difference with its interval, and whether they differ."""
    rows: list[tuple[str, ...]] = [
        ("by", "segment", "users", "champion", "challenger", "difference at every look", "p, corrected", "")
    ]
    several = len({each.variant for each in segments}) > 1
    for each in segments:
        users = f"{each.users[CHAMPION]:,} / {each.users[CHALLENGER]:,}"
        ctrs = ["–" if ctr is None else f"{ctr:.2%}" for ctr in (each.champion, each.challenger)]
        found = [each.lacks, "", ""]
        if each.difference is not None and each.always_valid is not None:
            low, high = each.always_valid.low, each.always_valid.high
            points = f"{100 * each.difference:+.2f} points ({100 * low:+.2f} – {100 * high:+.2f})"
            found = [points, f"{each.adjusted_p_value:.2g}", "differs" if each.differs else ""]
        value = f"{each.value}, {each.variant}" if several else each.value
        rows.append((each.dimension, value, users, *ctrs, *found))
    return rows
