"""Charts of the report as SVG: no script, no resource, colours of the page in light and dark. Pure.

Each is drawn on a box of the given size and stretches with the page; the numbers are in the tables beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from immr.evaluation.bootstrap import Interval
from immr.evaluation.calibration import Bin

Scale = Callable[[float], float]
"""A value's place on the drawing."""

_WIDTH = 640
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 12, 28
_DASHES = ("", "6 4", "2 3", "8 3 2 3")


def lines(curves: Mapping[str, Sequence[float]], title: str, across: str, height: int = 240) -> str:
    """Curves over 1, 2, 3 …: each its own dash and a label at its end, so that no one needs the colours."""
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    longest = max((len(curve) for curve in curves.values()), default=0)
    if not values or longest < 2:
        return ""
    low, high = min(0.0, *values), max(values)
    x, y = _scale(1, longest, _LEFT, _WIDTH - _RIGHT - 110), _scale(low, high, height - _BOTTOM, _TOP)
    parts = [_grid(low, high, y, _LEFT, _WIDTH - _RIGHT - 110, height), _below(1, longest, x, across, height)]
    ends = _apart([(y(curve[-1]), name) for name, curve in curves.items() if len(curve)])
    for number, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in enumerate(curve, 1))
        style = f'stroke-dasharray="{_DASHES[number % len(_DASHES)]}"'
        parts.append(f'<polyline class="series s{number % 4}" {style} points="{points}"/>')
        parts.append(
            f'<text class="label" x="{_WIDTH - _RIGHT - 104}" y="{ends[name] + 4:.1f}">{escape(name)}</text>'
        )
    return _svg(parts, title, height)


def intervals(rows: Mapping[str, Interval], title: str) -> str:
    """A dot and its interval for each row, from 0 to 1."""
    if not rows:
        return ""
    height = 26 * len(rows) + _BOTTOM + _TOP
    x = _scale(0, 1, 190, _WIDTH - _RIGHT - 50)
    parts = []
    for tick in range(0, 11, 2):
        at = x(tick / 10)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{height - _BOTTOM}"/>')
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{at}" y="{height - 8}">{tick / 10:g}</text>'
        )
    for number, (name, row) in enumerate(rows.items()):
        at = _TOP + 26 * number + 13
        shown = name if len(name) <= 26 else name[:25] + "…"
        parts.append(f'<text class="label" text-anchor="end" x="180" y="{at + 4}">{escape(shown)}</text>')
        parts.append(f'<line class="bar" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{at}" y2="{at}"/>')
        parts.append(f'<circle class="dot" cx="{x(row.mean):.1f}" cy="{at}" r="5"/>')
        parts.append(f'<text class="tick" x="{_WIDTH - 54}" y="{at + 4}">{row.mean:.3f}</text>')
    return _svg(parts, title, height)


def reliability(bins: Sequence[Bin], title: str, height: int = 260) -> str:
    """Share of right answers over their score; on the diagonal the score would be that share."""
    if not bins:
        return ""
    start, end = min(0.0, bins[0].low), max(1.0, bins[-1].high)
    x, y = _scale(start, end, _LEFT, _WIDTH - _RIGHT), _scale(0, 1, height - _BOTTOM, _TOP)
    parts = [_grid(0, 1, y, _LEFT, _WIDTH - _RIGHT, height)]
    for tick in range(round(start * 5), round(end * 5) + 1):
        place = f'x="{x(tick / 5):.1f}" y="{height - 8}"'
        parts.append(f'<text class="tick" text-anchor="middle" {place}>{tick / 5:g}</text>')
    parts.append(f'<line class="ideal" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    points = " ".join(f"{x(part.score):.1f},{y(part.right.mean):.1f}" for part in bins)
    parts.append(f'<polyline class="series s0" points="{points}"/>')
    for part in bins:
        at = x(part.score)
        parts.append(
            f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{y(part.right.low):.1f}" '
            f'y2="{y(part.right.high):.1f}"/>'
        )
        parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{y(part.right.mean):.1f}" r="5"/>')
    return _svg(parts, title, height)


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _grid(low: float, high: float, y: Scale, left: float, right: float, height: int) -> str:
    parts = []
    for part in range(5):
        value = low + (high - low) * part / 4
        at = y(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{at + 4:.1f}">{value:.3g}</text>'
        )
    return "".join(parts)


def _below(first: int, last: int, x: Scale, across: str, height: int) -> str:
    ends = ((first, f"{across} {first}", "start"), (last, f"{last}", "end"))
    return "".join(
        f'<text class="tick" text-anchor="{anchor}" x="{x(place):.1f}" y="{height - 8}">{escape(text)}</text>'
        for place, text, anchor in ends
    )


def _apart(ends: list[tuple[float, str]], least: float = 15) -> dict[str, float]:
    """Label heights that do not overlap, as close to the wished ones as that allows."""
    placed: dict[str, float] = {}
    before = -math.inf
    for wished, name in sorted(ends):
        before = max(wished, before + least)
        placed[name] = before
    return placed


def _svg(parts: Sequence[str], title: str, height: int) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
