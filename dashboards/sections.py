"""The content of the page's sections: charts and rows for the templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dashboards import chart_data, reports
from dashboards.actions import possible_actions
from dashboards.lineage import Lineage
from dashboards.live_experiment import LiveExperiment
from immr.charts.bars import Bar, bar_chart
from immr.charts.lines import line_chart
from immr.experiment.revision import revision_of
from immr.readout.formats.report import metrics_plot, progress
from immr.readout.formats.text import metric_name, verdicts

_SHOWN_RANKS = (1, 2, 3, 5, 10)
_MAX_CATEGORIES = 6
_NEWEST_TESTS, _MAX_TESTS = 5, 100
_WIDE_PX, _NARROW_PX = 940, 330


@dataclass(frozen=True)
class Sources:
    """What the sections read from."""

    live: LiveExperiment
    lineage: Lineage
    reports_folder: Path
    tracking: str = ""  # address of MLflow in a browser
    pipeline_link: Callable[[str], str] = lambda run: ""  # the address of a pipeline run in Kubeflow's UI
    actions_enabled: bool = False


def _ctr_context(sources: Sources) -> dict[str, Any]:
    lines = sources.live.ctr()
    shown = [one for one in lines.series if one.points]
    description = ". ".join(f"{one.name}: {one.points[-1].label}" for one in shown)

    def chart(name: str, width_px: int) -> Markup:
        return line_chart(
            lines.series,
            name=name,
            title="CTR by version over time",
            description=f"Clicks per impression, the newest first of each line. {description}",
            value_text=lambda value: f"{100 * value:g} %" if value else "0",
            width_px=width_px,
        )

    wide, narrow = chart("ctr-wide", _WIDE_PX), chart("ctr-narrow", _NARROW_PX)
    return {"lines": lines, "shown": shown, "wide": wide, "narrow": narrow}


def _readout_context(sources: Sources) -> dict[str, Any]:
    standing = sources.live.standing()
    if standing is None:
        return {"standing": None}
    readout = standing.readout
    of_variant = {side.variant: side for side in readout.health}
    return {
        "standing": standing,
        "verdicts": verdicts(standing.experiment, standing.decision),
        "health": {side.name: of_variant.get(side.name) for side in readout.variants},
        "compared": [(metric_name(each, readout), each) for each in readout.comparisons],
        "wide": metrics_plot(readout, "lifts-wide", _WIDE_PX),
        "narrow": metrics_plot(readout, "lifts-narrow", _NARROW_PX),
        "progress": progress(standing.experiment, readout, standing.decision),
        "actions": possible_actions(standing.experiment, standing.decision),
        "revision": revision_of(standing.experiment),
        "actions_enabled": sources.actions_enabled,
        "most_challengers": sources.live.most_challengers,
    }


def _history_context(sources: Sources) -> dict[str, Any]:
    history = sources.live.history()
    tests = history[:_MAX_TESTS]
    return {
        "tests": tests,
        "newest": _NEWEST_TESTS,
        "older": len(history) - len(tests),
        "reports": {test.name for test in tests if sources.live.test_report(test.name).is_file()},
    }


def _places_context(sources: Sources) -> dict[str, Any]:
    places = sources.live.places()
    colours = {name: colour for colour, name in enumerate(places.variants)}
    rows = chart_data.by_category(places.categories, places.variants)

    def chart(name: str, title: str, bars: list[Bar]) -> Markup:
        description = ". ".join(f"{bar.group}, {bar.name}: {chart_data.percent(bar.value)}" for bar in bars)
        return bar_chart(
            bars,
            name=name,
            title=title,
            description=description,
            value_text=chart_data.percent,
            width_px=_WIDE_PX // 2,
            names_px=78,
        )

    ranks = sorted(places.ranks, key=lambda rank: (rank.position, colours.get(rank.variant, len(colours))))
    by_rank = [
        Bar(f"rank {rank.position}", rank.variant, rank.ctr, colours.get(rank.variant, len(colours)))
        for rank in ranks
        if rank.position in _SHOWN_RANKS
    ]
    most_shown = list(dict.fromkeys(row.category for row in rows))[:_MAX_CATEGORIES]
    by_category = [
        Bar(row.category, row.variant, row.clicks / row.impressions, colours.get(row.variant, 0))
        for row in rows
        if row.category in most_shown
    ]
    return {
        "ranks": ranks,
        "categories": rows,
        "rank_chart": chart("by-rank", "CTR by rank", by_rank),
        "category_chart": chart("by-category", "CTR by category", by_category),
    }


def _models_context(sources: Sources) -> dict[str, Any]:
    running = sources.live.running()
    names = {side.model_version: running.name for side in running.variants} if running else {}
    return {
        "versions": sources.lineage.versions(),
        "drift": sources.lineage.drift(),
        "experiment": names,
        "tracking": sources.tracking,
        "pipeline_link": sources.pipeline_link,
    }


def _latency_context(sources: Sources) -> dict[str, Any]:
    speed = sources.live.speed()
    description = ". ".join(f"{bar.group}, {bar.name}: {bar.value:.0f} ms" for bar in speed.bars)

    def chart(name: str, width_px: int) -> Markup:
        return bar_chart(
            speed.bars,
            name=name,
            title="Search latency by version",
            description=description,
            value_text=lambda value: f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms",
            width_px=width_px,
        )

    return {
        "funnel": speed.funnel,
        "versions": {variant.name: variant.model_version for variant in sources.live.variants()},
        "wide": chart("latency-wide", _WIDE_PX // 2),
        "narrow": chart("latency-narrow", _NARROW_PX),
    }


SECTIONS: dict[str, Callable[[Sources], dict[str, Any]]] = {
    "ctr": _ctr_context,
    "readout": _readout_context,
    "history": _history_context,
    "places": _places_context,
    "latency": _latency_context,
    "models": _models_context,
    "reports": lambda sources: {"reports": reports.listed(sources.reports_folder)},
}
"""The template context of each section, in page order."""
