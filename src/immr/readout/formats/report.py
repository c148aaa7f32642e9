"""The report of a test: one self-contained HTML page that an analyst sends to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from immr.charts.forest import ForestRow, forest_plot
from immr.readout.formats.text import headline, metric_name, verdicts

if TYPE_CHECKING:
    from immr.experiment.definition import Experiment
    from immr.experiment.history import TestEvent
    from immr.readout.decision import Decision
    from immr.readout.readout import Readout
    from immr.readout.segments import Segment

# comments in the template, where something can be added to a finished page
_ABOVE_VERDICT = "<!-- above the verdict -->"
_LAST_ROW = "<!-- last row of what was done -->"


def render(
    experiment: Experiment,
    readout: Readout,
    decision: Decision,
    segments: Sequence[Segment] = (),
    events: Sequence[TestEvent] = (),
) -> str:
    """The page: the sentence, the forest plot, the metrics, segments, sample ratio, guardrails, and what was done."""
    return str(
        _template().render(
            experiment=experiment,
            readout=readout,
            decision=decision,
            headline=headline(experiment, decision),
            verdicts=verdicts(experiment, decision),
            segments=segments,
            events=events,
            made=datetime.now(UTC),
            metrics_chart=metrics_plot(readout, "metrics"),
            segments_chart=segments_plot(segments, "segments"),
            progress=progress(experiment, readout, decision),
        )
    )


def mark_rollback(page: str, event: TestEvent) -> str:
    """A kept page whose promotion was undone or restored later: it says so above its verdict and at its end."""
    when = f"{event.ts:%d %b %Y %H:%M}"
    said = f"{event.what.capitalize()} on {when} UTC."
    above = f'<p class="verdict"><strong>{said}</strong> {escape(event.reason)}</p>\n'
    row = (
        f'<tr><td>{when}</td><th scope="row">{event.what}: {escape(event.challenger)}</th><td>{escape(event.by)}</td>'
        f'<td class="n">{100 * event.share:.3g} %</td></tr><!-- {event.ts.isoformat()} -->\n'
    )
    if row in page:  # the process was killed right after it marked the page
        return page
    return page.replace(_ABOVE_VERDICT, above + _ABOVE_VERDICT).replace(_LAST_ROW, row + _LAST_ROW)


def metrics_plot(readout: Readout, name: str, width_px: int = 700) -> str:
    """Relative lifts of all metrics with their one-look intervals; the CTR alone has to be read at every look."""
    rows = [
        ForestRow(
            metric_name(each, readout),
            each.relative_lift,
            each.relative_interval.low,
            each.relative_interval.high,
        )
        for each in readout.comparisons
        if each.relative_lift is not None and each.relative_interval is not None
    ]
    return _plot(rows, name, "Lift of each metric, relative to the champion", _percent, width_px)


def segments_plot(segments: Sequence[Segment], name: str, width_px: int = 700) -> str:
    """Differences in CTR of the compared segments, with intervals for all of them together."""
    several = len({each.variant for each in segments}) > 1
    rows = [
        ForestRow(
            f"{each.dimension} {each.value}" + (f", {each.variant}" if several else ""),
            each.difference,
            each.always_valid.low,
            each.always_valid.high,
        )
        for each in segments
        if each.difference is not None and each.always_valid is not None
    ]
    return _plot(rows, name, "Difference in CTR by segment", _points, width_px)


def progress(experiment: Experiment, readout: Readout, decision: Decision) -> str:
    """How far a running test is: "2,000 of 10,196 users; about 3 days". Empty if it is decided or has no plan."""
    if readout.plan is None or decision.action != "wait" or experiment.state != "running":
        return ""
    users, needed = readout.pair_users, readout.plan.users_always_valid
    of = "" if len(readout.variants) == 2 else " of the champion and the smallest challenger"
    if users >= needed:
        enough = f"{users:,} users{of}, of the {needed:,} that the plan needs"
        return f"{enough}; {_more(readout.min_days_left)}" if readout.min_days_left else enough
    so_far = f"{users:,} of {needed:,} users{of}"
    if (days := readout.days_to_go) is None:
        return f"{so_far}; too early to say how long it takes" + (
            f", but not less than {readout.min_days:g} days" if readout.min_days_left >= 1 else ""
        )
    return f"{so_far}; {_more(days)}"


def _more(days: float) -> str:
    """`about 3 more days`; below a day and a half, in hours."""
    if days >= 1.5:
        return f"about {days:,.0f} more days"
    return f"about {max(round(24 * days), 1)} more hour{'s' if round(24 * days) > 1 else ''}"


def _plot(
    rows: Sequence[ForestRow], name: str, title: str, value_text: Callable[[float], str], width_px: int
) -> str:
    """The forest plot, with its rows in words for screen readers."""
    words = ((row.name, *map(value_text, (row.value, row.low, row.high))) for row in rows)
    return forest_plot(
        rows,
        name=name,
        title=title,
        description=". ".join("{}: {}, from {} to {}".format(*each) for each in words),
        value_text=value_text,
        width_px=width_px,
    )


def _percent(value: float) -> str:
    return f"{100 * value:+.3g} %" if value else "0"


def _points(value: float) -> str:
    return f"{100 * value:+.2f}" if value else "0"


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("immr.readout.formats").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
