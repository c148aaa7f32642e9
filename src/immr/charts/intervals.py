"""Interval charts: a dot and its interval per row, for shares between 0 and 1. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from immr.charts import svg

_NAMES_PX, _VALUE_PX, _ROW_PX, _TOP_PX, _AXIS_PX = 190, 54, 26, 12, 28
_LONGEST_NAME = 26


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A named value with its interval; bounds are clipped to 0 and 1."""

    name: str
    value: float
    low: float
    high: float
    colour: int = 0


def interval_chart(
    rows: Sequence[IntervalRow], *, name: str, title: str, description: str, width_px: int = 640
) -> Markup:
    """One row per value, over an axis from 0 to 1; empty if there are no rows.

    For the arguments see `lines.line_chart`.
    """
    if not rows:
        return Markup("")
    height_px = _ROW_PX * len(rows) + _TOP_PX + _AXIS_PX
    span = width_px - _NAMES_PX - _VALUE_PX - 8

    def x(share: float) -> float:
        return _NAMES_PX + span * min(1.0, max(0.0, share))

    parts: list[Markup] = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(svg.grid_line(x(tick), x(tick), _TOP_PX, height_px - _AXIS_PX))
        parts.append(svg.text(x(tick), height_px - 8, f"{tick:g}", "tick middle"))
    for number, row in enumerate(rows):
        y = _TOP_PX + _ROW_PX * number + _ROW_PX // 2
        parts.append(svg.row_name(_NAMES_PX - 10, y, row.name, _LONGEST_NAME))
        parts.append(
            Markup('<line class="whisker series-{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                row.colour % svg.SERIES_COLOURS, svg.number(x(row.low)), svg.number(x(row.high)), y=y
            )
        )
        parts.append(
            Markup('<g class="dot series-{}"><circle cx="{}" cy="{}" r="5"/></g>').format(
                row.colour % svg.SERIES_COLOURS, svg.number(x(row.value)), y
            )
        )
        parts.append(svg.text(width_px - _VALUE_PX, y + 4, f"{row.value:.3f}", "tick"))
    return svg.svg(parts, name, title, description, width_px, height_px)
