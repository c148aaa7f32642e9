"""Line charts with confidence bands, over time or over numbers. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from immr.charts import svg
from immr.charts.ticks import nice_steps, time_ticks

Ticks = Callable[[float, float, int], list[tuple[float, str]]]
"""(low, high, approximate count) → positions on the x axis with their text."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval. `x` is a number, or a time in seconds since 1970; `label` shows on hover.

    `when` is the part of the label that names the moment `when_s`, in UTC.
    """

    x: float
    value: float
    low: float
    high: float
    label: str
    when: str = ""
    when_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name, its points in x order, and the number of its colour."""

    name: str
    points: Sequence[Point]
    colour: int = 0

    @property
    def css_class(self) -> str:
        """The style sheet's class of its colour."""
        return f"series-{self.colour % svg.SERIES_COLOURS}"


def line_chart(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    description: str,
    value_text: Callable[[float], str],
    x_ticks: Ticks = time_ticks,
    width_px: int = 720,
    height_px: int = 260,
) -> Markup:
    """Lines, each inside the band of its intervals. The y axis starts at zero.

    Args:
        series: The lines; those without points are left out.
        name: Prefix of the chart's ids, unique on the page.
        title: What a screen reader announces.
        description: What the chart shows, in a sentence.
        value_text: Formats values of the y axis.
        x_ticks: Chooses and formats positions on the x axis; times by default.
        width_px: Natural width in pixels.
        height_px: Natural height in pixels.

    Returns:
        An `<svg>`, empty if there are no points.
    """
    drawn = [line for line in series if line.points]
    if not drawn:
        return Markup("")
    frame = _Frame.around(drawn, width_px, height_px)
    parts = [*_value_axis(frame, value_text), *_x_axis(frame, x_ticks)]
    parts += [_band(line, frame) for line in drawn if any(point.low < point.high for point in line.points)]
    parts += [_line(line, frame) for line in drawn]
    parts += [_dot(line, point, frame) for line in drawn for point in line.points]
    return svg.svg(parts, name, title, description, width_px, height_px)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The inner rectangle of the plot and the data range that it shows."""

    left: float
    top: float
    right: float
    bottom: float
    first_x: float
    last_x: float
    values: Sequence[float]  # steps of the y axis, ascending

    @classmethod
    def around(cls, series: Sequence[Series], width_px: int, height_px: int) -> _Frame:
        points = [point for line in series for point in line.points]
        first_x, last_x = min(point.x for point in points), max(point.x for point in points)
        if first_x == last_x:
            first_x, last_x = first_x - 30, last_x + 30
        values = nice_steps(0.0, max(_top_shown(points), 1e-6), 4)
        return cls(52, 10, width_px - 14, height_px - 28, first_x, last_x, values)

    def x(self, x: float) -> float:
        return self.left + (self.right - self.left) * (x - self.first_x) / (self.last_x - self.first_x)

    def y(self, value: float) -> float:
        share = (value - self.values[0]) / (self.values[-1] - self.values[0])
        return self.bottom - (self.bottom - self.top) * min(1.0, max(0.0, share))


def _top_shown(points: Sequence[Point]) -> float:
    """The top of the y axis: a very wide interval (from two impressions, say) must not flatten the rest."""
    return min(max(point.high for point in points), 2.0 * max(point.value for point in points) or math.inf)


def _value_axis(frame: _Frame, value_text: Callable[[float], str]) -> list[Markup]:
    parts = []
    for value in frame.values:
        y = frame.y(value)
        parts.append(svg.grid_line(frame.left, frame.right, y, y))
        parts.append(svg.text(frame.left - 8, y + 4, value_text(value), "tick end"))
    return parts


def _x_axis(frame: _Frame, x_ticks: Ticks) -> list[Markup]:
    about = max(2, int((frame.right - frame.left) / 95))
    leftmost, rightmost, y = frame.left + 20, frame.right - 22, frame.bottom + 20
    is_time = x_ticks is time_ticks
    return [
        svg.text(min(max(frame.x(x), leftmost), rightmost), y, text, "tick middle", x if is_time else None)
        for x, text in x_ticks(frame.first_x, frame.last_x, about)
    ]


def _band(line: Series, frame: _Frame) -> Markup:
    upper = [(frame.x(point.x), frame.y(point.high)) for point in line.points]
    lower = [(frame.x(point.x), frame.y(point.low)) for point in reversed(line.points)]
    if len(line.points) == 1:
        x = upper[0][0]
        upper, lower = (
            [(x - 4, upper[0][1]), (x + 4, upper[0][1])],
            [(x + 4, lower[0][1]), (x - 4, lower[0][1])],
        )
    outline = svg.coordinates([*upper, *lower])
    return Markup('<polygon class="band {}" points="{}"/>').format(line.css_class, outline)


def _line(line: Series, frame: _Frame) -> Markup:
    points = svg.coordinates([(frame.x(point.x), frame.y(point.value)) for point in line.points])
    return Markup('<polyline class="line {}" points="{}"/>').format(line.css_class, points)


def _dot(line: Series, point: Point, frame: _Frame) -> Markup:
    x, y = svg.number(frame.x(point.x)), svg.number(frame.y(point.value))
    moment = (
        Markup(' data-time="{}" data-utc="{}"').format(svg.number(point.when_s), point.when)
        if point.when
        else ""
    )
    return Markup(
        '<g class="dot {css_class}"><title{moment}>{label}</title>'
        '<circle cx="{x}" cy="{y}" r="3"/><circle class="reach" cx="{x}" cy="{y}" r="9"/></g>'
    ).format(css_class=line.css_class, label=point.label, moment=moment, x=x, y=y)
