"""Horizontal bar charts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from immr.charts import svg

_VALUE_PX = 84  # room for the value at a bar's end


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: `group` is the heading above it, `name` its label within the group."""

    group: str
    name: str
    value: float
    colour: int = 0
    faint: bool = False


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
    """Horizontal bars from zero, with a heading for each group; empty if there are no bars.

    For the arguments see `lines.line_chart`; `names_px` is the width of the bars' names.
    """
    if not bars:
        return Markup("")
    longest = max(bar.value for bar in bars) or 1.0
    parts: list[Markup] = []
    y, group = 0, None
    for bar in bars:
        if bar.group != group:
            y, group = y + (30 if group is not None else 16), bar.group
            parts.append(svg.text(0, y, bar.group, "group"))
            y += 10
        length = max(1.0, (width_px - names_px - _VALUE_PX) * bar.value / longest)
        classes = f"bar series-{bar.colour % svg.SERIES_COLOURS}{' faint' if bar.faint else ''}"
        parts.append(svg.text(0, y + 14, bar.name, "tick"))
        parts.append(
            Markup('<rect class="{}" x="{}" y="{}" width="{}" height="18" rx="3"/>').format(
                classes, names_px, y, svg.number(length)
            )
        )
        parts.append(svg.text(names_px + length + 8, y + 14, value_text(bar.value), "value"))
        y += 26
    return svg.svg(parts, name, title, description, width_px, y + 4)
