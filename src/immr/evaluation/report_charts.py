"""The charts of the evaluation report. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from immr.charts.intervals import IntervalRow, interval_chart
from immr.charts.lines import Point, Series, line_chart
from immr.charts.ticks import number_ticks
from immr.evaluation.bootstrap import Estimate
from immr.evaluation.calibration import Bin
from immr.evaluation.result import Evaluation


@dataclass(frozen=True)
class LossChart:
    """Training losses, and what the legend lists."""

    chart: Markup
    series: Sequence[Series]


def slice_chart(
    evaluation: Evaluation, metric: str, others: Mapping[str, Evaluation] | None = None
) -> Markup:
    """The metric on all photos and on each slice, with that of the other versions below it."""
    others = others or {}
    rows = [_row("all photos", evaluation.intervals[metric])]
    rows += [
        _row(name, other.intervals[metric], colour)
        for colour, (name, other) in enumerate(others.items(), start=1)
    ]
    for slice_name, part in evaluation.slices.items():
        rows.append(_row(f"{slice_name} ({part.queries})", part.intervals[metric]))
        rows += [
            _row(name, other.slices[slice_name].intervals[metric], colour)
            for colour, (name, other) in enumerate(others.items(), start=1)
            if slice_name in other.slices
        ]
    return interval_chart(
        rows, name="slices", title=f"{metric} by slice", description="The table below has the same numbers."
    )


def calibration_chart(bins: Sequence[Bin]) -> Markup:
    """Share of correct first hits by score, and the diagonal on which the score would equal that share."""
    answers = [
        Point(
            part.score,
            part.right.mean,
            part.right.low,
            part.right.high,
            f"score {part.score:.2f}: {part.right.mean:.0%} of {part.answers} correct",
        )
        for part in bins
    ]
    diagonal = [Point(end, end, end, end, "score = share right") for end in (0.0, 1.0) if bins]
    return line_chart(
        [Series("answers", answers, 0), Series("score = share right", diagonal, 3)],
        name="calibration-chart",
        title="Share of correct first hits by score",
        description="The table below has the same numbers.",
        value_text=lambda value: f"{value:g}",
        x_ticks=number_ticks,
    )


def loss_chart(curves: Mapping[str, Sequence[float]]) -> LossChart:
    """The curves whose name starts with "loss", by epoch; empty for fewer than two epochs."""
    losses = {name: curve for name, curve in curves.items() if name.startswith("loss") and len(curve) > 1}
    series = [
        Series(
            name,
            [
                Point(epoch, value, value, value, f"{name}, epoch {epoch}: {value:.3f}")
                for epoch, value in enumerate(curve, 1)
                if math.isfinite(value)
            ],
            colour,
        )
        for colour, (name, curve) in enumerate(losses.items())
    ]
    drawn = line_chart(
        series,
        name="losses",
        title="Training loss by epoch",
        description=". ".join(f"{one.name}: {one.points[-1].value:.3f} at the end" for one in series),
        value_text=lambda value: f"{value:.3g}",
        x_ticks=number_ticks,
    )
    return LossChart(drawn, series)


def _row(name: str, estimate: Estimate, colour: int = 0) -> IntervalRow:
    return IntervalRow(name, estimate.mean, estimate.low, estimate.high, colour)
