"""The report of an evaluation: one self-contained HTML file for MLflow, Kubeflow, a phone, a dark room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from immr.data.thumbnails import thumbnail
from immr.evaluation import charts, gallery
from immr.evaluation.bootstrap import Interval, difference_interval
from immr.evaluation.confusions import Confusion, confusions
from immr.evaluation.evaluate import Evaluation
from immr.evaluation.gate import GateVerdict
from immr.storage.atomic import write_atomically
from immr.types import Item

MAX_QUERIES = 40
MAX_CONFUSIONS = 12
_THUMBNAIL_PX = 96


@dataclass(frozen=True)
class Background:
    """What else is known of a version; a part that is empty is not shown."""

    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by epoch
    manifest: Mapping[str, Any] = field(default_factory=dict)  # of its training set
    others: Mapping[str, Evaluation] = field(default_factory=dict)  # versions judged on the same photos


@dataclass(frozen=True)
class Row:
    """A version among others on the same photos."""

    name: str
    intervals: Mapping[str, Interval]
    slices: Mapping[str, float]  # recall@1
    difference: Interval | None  # to the evaluated version; None for itself


def write_report(
    evaluation: Evaluation,
    items: Sequence[Item],
    out: Path,
    *,
    name: str = "candidate",
    verdict: GateVerdict | None = None,
    comparisons: Mapping[str, Evaluation] | None = None,
    background: Background | None = None,
    max_queries: int = MAX_QUERIES,
) -> Path:
    """Write the report: the gate's sentence, metrics, slices, calibration, training, confusions, photos.

    Among the photos failures come first, worst first; then some successes. A picture that cannot be read is a
    gap, no error.

    Args:
        evaluation: whose answers are shown.
        items: the documents it was evaluated against.
        out: the HTML file.
        name: of the evaluated version, "immr-3".
        verdict: of the gate.
        comparisons: other evaluations by name (the champion), for the table and for each query's rank.
        background: what is known beside.
        max_queries: shown at most.

    Returns:
        The path of the file.
    """
    from jinja2 import Environment, StrictUndefined

    others, known = dict(comparisons or {}), background or Background()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        resources.files("immr.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    by_id = {item.item_id: item for item in items}
    picture = cache(partial(thumbnail, side_px=_THUMBNAIL_PX))
    page = template.render(
        name=name,
        evaluation=evaluation,
        columns={name: evaluation, **others},
        verdict=verdict,
        calibration=evaluation.calibration,
        charts=_charts(evaluation, known),
        rows=ablation(name, evaluation, known.others),
        manifest=known.manifest,
        confusions=_confusions(evaluation, by_id, picture),
        shown=gallery.shown(
            evaluation, by_id, others, gallery.choose(evaluation.ranks, max_queries), picture
        ),
        failures=int((evaluation.ranks > 1).sum()),
    )
    write_atomically(out, page)
    return out


def ablation(name: str, evaluation: Evaluation, others: Mapping[str, Evaluation]) -> list[Row]:
    """The evaluated version and those that answered the same queries on the same documents, best first."""
    rows = [Row(name, evaluation.intervals, _recall_by_slice(evaluation), None)]
    own = dict(zip(evaluation.query_ids, evaluation.per_query["recall@1"], strict=True))
    for other_name, other in others.items():
        same = other.documents_hash == evaluation.documents_hash and set(other.query_ids) == own.keys()
        if other_name != name and same:
            ours_Q = np.array([own[query_id] for query_id in other.query_ids])
            difference = difference_interval(
                other.per_query["recall@1"], ours_Q, rounds=2000, confidence=evaluation.confidence, seed=0
            )
            rows.append(Row(other_name, other.intervals, _recall_by_slice(other), difference))
    return sorted(rows, key=lambda row: -row.intervals["recall@1"].mean)


def _recall_by_slice(evaluation: Evaluation) -> dict[str, float]:
    return {name: part.intervals["recall@1"].mean for name, part in evaluation.slices.items()}


def _charts(evaluation: Evaluation, known: Background) -> dict[str, Markup]:
    losses = {name: curve for name, curve in known.curves.items() if name.startswith("loss")}
    recall = {"all photos": evaluation.intervals["recall@1"]} | {
        f"{name} ({part.queries})": part.intervals["recall@1"] for name, part in evaluation.slices.items()
    }
    drawn = {
        "training": charts.lines(losses, "Training loss by epoch", "epoch"),
        "slices": charts.intervals(recall, "recall@1 by slice, with intervals"),
        "calibration": charts.reliability(evaluation.calibration.bins, "Share of right answers by score"),
    }
    # the charts escape what they are told; nothing else in them comes from outside
    return {name: Markup(chart) for name, chart in drawn.items()}


def _confusions(
    evaluation: Evaluation, items: Mapping[str, Item], picture: gallery.Picture
) -> list[tuple[Confusion, gallery.Answer, gallery.Answer]]:
    def shown(item_id: str, right: bool) -> gallery.Answer:
        item = items.get(item_id)
        return gallery.Answer(
            item.title if item else item_id, picture(item.image) if item else "", None, right
        )

    return [
        (found, shown(found.right, True), shown(found.answered, False))
        for found in confusions(evaluation, MAX_CONFUSIONS)
    ]
