"""Charts as SVG: pure functions from figures to markup. Colours and fonts are the style sheet's (ours).

A chart is drawn in its own pixels, so that its text stays readable: the page asks for a wide and a narrow one
and shows the one that fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup, escape

SERIES_COLOURS = 4
"""So many looks (`series-0` …) has the style sheet; a fifth series looks like the first."""

_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time (seconds since 1970, UTC) with its interval; `label` is shown on hover."""

    at_s: float
    value: float
    low: float
    high: float
    label: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its name and its points in order of time. `look` is its place among the colours."""

    name: str
    points: Sequence[Point]
    look: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: `group` is its row's name, `name` says which value of the row it is."""

    group: str
    name: str
    value: float
    look: int = 0
    faint: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    description: str,
    value_text: Callable[[float], str],
    width_px: int = 720,
    height_px: int = 260,
) -> Markup:
    """Lines over time, each within its interval's band.

    Args:
        series: what to draw; those with no points are left out.
        name: makes the ids of this chart its own on the page.
        title: what a screen reader says first.
        description: what the chart shows, in a sentence.
        value_text: how a value on the y axis is written.
        width_px: width in pixels at which text has its natural size.
        height_px: the same for the height.

    Returns:
        An `<svg>`, or nothing where there are no points.
    """
    drawn = [one for one in series if one.points]
    if not drawn:
        return Markup("")
    frame = _Frame.around(drawn, width_px, height_px)
    parts = [*_value_axis(frame, value_text), *_time_axis(frame)]
    parts += [_band(one, frame) for one in drawn]
    parts += [_line(one, frame) for one in drawn]
    parts += [_dot(one, point, frame) for one in drawn for point in one.points]
    return _svg(parts, name, title, description, width_px, height_px)


def bar_chart(
    bars: Sequence[Bar],
    *,
    name: str,
    title: str,
    description: str,
    value_text: Callable[[float], str],
    width_px: int = 720,
    names_px: int = 44,
) -> Markup:
    """Horizontal bars from zero, a heading line per group. Nothing where there are no bars."""
    if not bars:
        return Markup("")
    top = max((bar.value for bar in bars), default=0.0) or 1.0
    left, right = names_px, 84
    parts: list[Markup] = []
    y, group = 0, None
    for bar in bars:
        if bar.group != group:
            y, group = y + (30 if group is not None else 16), bar.group
            parts.append(_text(0, y, bar.group, "group"))
            y += 10
        length = max(1.0, (width_px - left - right) * bar.value / top)
        look = f"bar series-{bar.look % SERIES_COLOURS}{' faint' if bar.faint else ''}"
        parts.append(_text(0, y + 14, bar.name, "tick"))
        parts.append(
            Markup('<rect class="{}" x="{}" y="{}" width="{}" height="18" rx="3"/>').format(
                look, left, y, _n(length)
            )
        )
        parts.append(_text(left + length + 8, y + 14, value_text(bar.value), "value"))
        y += 26
    return _svg(parts, name, title, description, width_px, y + 4)


def nice_steps(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from below `low` to above `high`, about so many."""
    span = high - low or abs(high) or 1.0
    raw = span / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def time_steps(low_s: float, high_s: float, about: int) -> list[tuple[float, str]]:
    """Round moments (UTC) within the span, about so many, each with how it is written."""
    raw = (high_s - low_s) / max(1, about)
    step = next((step for step in _SECONDS if step >= raw), 86400 * max(1, math.ceil(raw / 86400)))
    pattern = "%d %b" if step >= 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    first, last = math.ceil(low_s / step), math.floor(high_s / step)
    return [
        (number * step, datetime.fromtimestamp(number * step, UTC).strftime(pattern))
        for number in range(first, last + 1)
    ]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's inner rectangle, and what its edges mean."""

    left: float
    top: float
    right: float
    bottom: float
    from_s: float
    to_s: float
    values: Sequence[float]  # the y axis' steps, ascending

    @classmethod
    def around(cls, series: Sequence[Series], width_px: int, height_px: int) -> _Frame:
        points = [point for one in series for point in one.points]
        from_s, to_s = min(p.at_s for p in points), max(p.at_s for p in points)
        if from_s == to_s:
            from_s, to_s = from_s - 30, to_s + 30
        values = nice_steps(0.0, max(_top_shown(points), 1e-6), 4)
        return cls(52, 10, width_px - 14, height_px - 28, from_s, to_s, values)

    def x(self, at_s: float) -> float:
        return self.left + (self.right - self.left) * (at_s - self.from_s) / (self.to_s - self.from_s)

    def y(self, value: float) -> float:
        share = min(1.0, (value - self.values[0]) / (self.values[-1] - self.values[0]))
        return self.bottom - (self.bottom - self.top) * share


def _top_shown(points: Sequence[Point]) -> float:
    """The highest bound that is worth the room: a bucket of two impressions must not flatten the rest."""
    return min(max(p.high for p in points), 2.0 * max(p.value for p in points) or math.inf)


def _value_axis(frame: _Frame, value_text: Callable[[float], str]) -> list[Markup]:
    parts = []
    for value in frame.values:
        y = _n(frame.y(value))
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                frame.left, frame.right, y, y
            )
        )
        parts.append(_text(frame.left - 8, frame.y(value) + 4, value_text(value), "tick end"))
    return parts


def _time_axis(frame: _Frame) -> list[Markup]:
    about = max(2, int((frame.right - frame.left) / 95))
    return [
        _text(
            min(max(frame.x(at_s), frame.left + 20), frame.right - 22), frame.bottom + 20, text, "tick middle"
        )
        for at_s, text in time_steps(frame.from_s, frame.to_s, about)
    ]


def _band(one: Series, frame: _Frame) -> Markup:
    upper = [(frame.x(p.at_s), frame.y(p.high)) for p in one.points]
    lower = [(frame.x(p.at_s), frame.y(p.low)) for p in reversed(one.points)]
    if len(one.points) == 1:
        x = upper[0][0]
        upper, lower = (
            [(x - 4, upper[0][1]), (x + 4, upper[0][1])],
            [(x + 4, lower[0][1]), (x - 4, lower[0][1])],
        )
    return Markup('<polygon class="band series-{}" points="{}"/>').format(
        one.look % SERIES_COLOURS, _coordinates([*upper, *lower])
    )


def _line(one: Series, frame: _Frame) -> Markup:
    points = [(frame.x(p.at_s), frame.y(p.value)) for p in one.points]
    return Markup('<polyline class="line series-{}" points="{}"/>').format(
        one.look % SERIES_COLOURS, _coordinates(points)
    )


def _dot(one: Series, point: Point, frame: _Frame) -> Markup:
    x, y = _n(frame.x(point.at_s)), _n(frame.y(point.value))
    return Markup(
        '<g class="dot series-{look}"><title>{label}</title>'
        '<circle cx="{x}" cy="{y}" r="3"/><circle class="reach" cx="{x}" cy="{y}" r="9"/></g>'
    ).format(look=one.look % SERIES_COLOURS, label=point.label, x=x, y=y)


def _svg(
    parts: Sequence[Markup], name: str, title: str, description: str, width_px: int, height_px: int
) -> Markup:
    head = Markup(
        '<svg class="chart" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'aria-labelledby="{n}-title {n}-desc"><title id="{n}-title">{title}</title>'
        '<desc id="{n}-desc">{description}</desc>'
    ).format(w=width_px, h=height_px, n=name, title=title, description=description)
    return head + Markup("").join(parts) + Markup("</svg>")


def _text(x: float, y: float, text: str, look: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(look, _n(x), _n(y), escape(text))


def _coordinates(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
