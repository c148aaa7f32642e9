"""Forest plots: one difference with its interval per row, around a line at zero. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from immr.charts import svg
from immr.charts.ticks import number_ticks

_ROW_PX, _TOP_PX, _AXIS_PX = 26, 10, 28
_NARROW_PX, _NAME_ABOVE_PX = 500, 16
"""On a narrow chart, names stand above their rows, so that none is cut."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A named difference with its interval."""

    name: str
    value: float
    low: float
    high: float

    @property
    def apart(self) -> bool:
        """Whether the interval excludes zero."""
        return not self.low <= 0 <= self.high


def forest_plot(
    rows: Sequence[ForestRow],
    *,
    name: str,
    title: str,
    description: str,
    value_text: Callable[[float], str],
    width_px: int = 640,
) -> Markup:
    """One row per difference, on one axis that includes zero; empty if there are no rows.

    For the other arguments see `lines.line_chart`.
    """
    if not rows:
        return Markup("")
    names_px, values_px = 12, 0
    if width_px > _NARROW_PX:
        names_px, values_px = min(max(190, 7 * max(len(row.name) for row in rows) + 12), 300), 190
    name_above_px = 0 if values_px else _NAME_ABOVE_PX
    row_px = _ROW_PX + name_above_px
    height_px = row_px * len(rows) + _TOP_PX + _AXIS_PX
    left, right = names_px, width_px - values_px - 12
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    slack = 0.04 * ((high - low) or 1.0)
    low, high = low - slack, high + slack

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    bottom = height_px - _AXIS_PX
    parts: list[Markup] = []
    for tick, _ in number_ticks(low, high, 5):
        parts.append(svg.grid_line(x(tick), x(tick), _TOP_PX, bottom))
        parts.append(svg.text(x(tick), height_px - 8, value_text(tick), "tick middle"))
    zero = svg.number(x(0.0))
    parts.append(
        Markup('<line class="zero" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(_TOP_PX, bottom, x=zero)
    )
    for number, row in enumerate(rows):
        y = _TOP_PX + row_px * number + name_above_px + _ROW_PX // 2
        value = value_text(row.value)
        if values_px:
            parts.append(svg.row_name(names_px - 10, y, row.name, names_px // 7))
            value = f"{value} ({value_text(row.low)} to {value_text(row.high)})"
            parts.append(svg.text(width_px - values_px, y + 4, value, "tick"))
        else:
            parts.append(svg.text(0, y - name_above_px + 4, row.name, "label"))
            parts.append(svg.text(width_px, y - name_above_px + 4, value, "tick end"))
        parts += _whisker(row, x, y)
    return svg.svg(parts, name, title, description, width_px, height_px)


def _whisker(row: ForestRow, x: Callable[[float], float], y: float) -> list[Markup]:
    """The interval as a line, and the estimate on it as a square."""
    look = "apart" if row.apart else "open"
    line = Markup('<line class="whisker {look}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
    square = Markup('<rect class="estimate {}" x="{}" y="{}" width="9" height="9"/>')
    return [
        line.format(svg.number(x(row.low)), svg.number(x(row.high)), y=y, look=look),
        square.format(look, svg.number(x(row.value) - 4.5), svg.number(y - 4.5)),
    ]
