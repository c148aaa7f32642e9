"""Building blocks of every chart: the `<svg>` element, text, and coordinates.

Charts are drawn at their natural size in pixels, so that text stays readable; a page may include a wide and a
narrow version and hide the one that does not fit. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

SERIES_COLOURS = 4
"""Style sheets define `series-0` … `series-3`; a fifth series looks like the first."""


def svg(
    parts: Sequence[Markup], name: str, title: str, description: str, width_px: int, height_px: int
) -> Markup:
    """An `<svg>` with a title and a description for screen readers; `name` makes its ids unique."""
    head = Markup(
        '<svg class="chart" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'aria-labelledby="{n}-title {n}-desc"><title id="{n}-title">{title}</title>'
        '<desc id="{n}-desc">{description}</desc>'
    ).format(w=width_px, h=height_px, n=name, title=title, description=description)
    return head + Markup("").join(parts) + Markup("</svg>")


def text(x: float, y: float, content: str, classes: str, time_s: float | None = None) -> Markup:
    """Text with its baseline at y; the classes "end" and "middle" set its anchor.

    With `time_s` (since 1970) the content is that moment in UTC, which a page may show in its reader's time zone.
    """
    moment = Markup("") if time_s is None else Markup(' data-time="{}"').format(number(time_s))
    return Markup('<text class="{}" x="{}" y="{}"{}>{}</text>').format(
        classes, number(x), number(y), moment, escape(content)
    )


def row_name(x: float, y: float, name: str, longest: int) -> Markup:
    """The name of a chart's row, ending at x around the height y, and cut to at most `longest` characters."""
    shown = name if len(name) <= longest else name[: longest - 1] + "…"
    return text(x, y + 4, shown, "label end")


def grid_line(x1: float, x2: float, y1: float, y2: float) -> Markup:
    """A thin line from (x1, y1) to (x2, y2)."""
    return Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        number(x1), number(x2), number(y1), number(y2)
    )


def coordinates(points: Sequence[tuple[float, float]]) -> str:
    """The `points` attribute of a polyline or polygon."""
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")
