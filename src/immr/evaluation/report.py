"""The evaluation report: one self-contained HTML file for MLflow, Kubeflow Pipelines and a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from immr.data.pictures.thumbnails import thumbnail
from immr.evaluation import gallery, report_charts
from immr.evaluation.bootstrap import Estimate, cautious_difference, over_clusterings
from immr.evaluation.confusions import Confusion, confusions
from immr.evaluation.gate import GateVerdict
from immr.evaluation.queries.kinds import KindResult
from immr.evaluation.result import Evaluation
from immr.storage.atomic import write_atomically
from immr.types import Item

MAX_QUERIES = 40
MAX_CONFUSIONS = 12
_METRIC = "recall@1"
_ROUNDS = 2000
_THUMBNAIL_PX = 96


@dataclass(frozen=True)
class Background:
    """Context from outside the evaluation; the report leaves out empty parts."""

    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by epoch
    manifest: Mapping[str, Any] = field(default_factory=dict)  # of its training set
    others: Mapping[str, Evaluation] = field(default_factory=dict)  # other versions on the same photos
    kinds: Mapping[str, KindResult] = field(default_factory=dict)  # by kind of query


@dataclass(frozen=True)
class Weakest:
    """The slice with the lowest recall@1."""

    name: str
    recall: float
    queries: int


@dataclass(frozen=True)
class JudgedRecall:
    """What recall@1 on the same photos may be if people judged them instead of clicks."""

    wrong_share: float  # of the clicked labels, estimated by governance
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A version in the table of versions."""

    name: str
    intervals: Mapping[str, Estimate]
    slices: Mapping[str, float]  # recall@1
    difference: Estimate | None  # from the evaluated version; None for itself


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
    """Write the report: a summary, then metrics, slices, calibration, training, confusions and photos.

    Wrong answers come first, worst first, then some right ones. A picture that cannot be read leaves a gap.

    Args:
        evaluation: the evaluated version.
        items: the documents it was evaluated on.
        out: the HTML file.
        name: of the evaluated version, "immr-3".
        verdict: of the gate.
        comparisons: other evaluations by name (the champion), for the table of metrics and each photo's rank.
        background: context from outside the evaluation.
        max_queries: most photos to show.

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
    by_id, picture = {item.item_id: item for item in items}, cache(partial(thumbnail, side_px=_THUMBNAIL_PX))
    chosen = gallery.choose(evaluation.ranks, max_queries)
    page = template.render(
        name=name,
        evaluation=evaluation,
        columns={name: evaluation, **others},
        verdict=verdict,
        calibration=evaluation.calibration,
        slice_chart=report_charts.slice_chart(evaluation, _METRIC, others),
        calibration_chart=report_charts.calibration_chart(evaluation.calibration.bins),
        losses=report_charts.loss_chart(known.curves),
        kinds=known.kinds,
        rows=ablation(name, evaluation, known.others),
        manifest=known.manifest,
        confusions=_confusions(evaluation, by_id, picture),
        weakest=_weakest(evaluation),
        judged=judged(evaluation, known.manifest),
        later=later(known.manifest),
        shown=gallery.gallery_queries(evaluation, by_id, others, chosen, picture),
        failures=int((evaluation.ranks > 1).sum()),
    )
    write_atomically(out, page)
    return out


def ablation(name: str, evaluation: Evaluation, others: Mapping[str, Evaluation]) -> list[Row]:
    """The evaluated version among those evaluated on the same queries and documents, best first."""
    rows = [Row(name, evaluation.intervals, _recall_by_slice(evaluation), None)]
    own = dict(zip(evaluation.query_ids, evaluation.per_query[_METRIC], strict=True))
    place = {query_id: row for row, query_id in enumerate(evaluation.query_ids)}
    for other_name, other in others.items():
        same = other.documents_hash == evaluation.documents_hash and set(other.query_ids) == own.keys()
        if other_name != name and same:
            ours_Q = np.array([own[query_id] for query_id in other.query_ids])
            theirs_Q = other.per_query[_METRIC]
            difference = over_clusterings(
                partial(
                    cautious_difference,
                    theirs_Q,
                    ours_Q,
                    rounds=_ROUNDS,
                    confidence=evaluation.confidence,
                    seed=0,
                ),
                [[each.ids[place[one]] for one in other.query_ids] for each in evaluation.clusterings],
            )
            rows.append(Row(other_name, other.intervals, _recall_by_slice(other), difference))
    return sorted(rows, key=lambda row: -row.intervals[_METRIC].mean)


def judged(evaluation: Evaluation, manifest: Mapping[str, Any]) -> JudgedRecall | None:
    """How far judged and reported recall@1 may differ; None if people judged, or nothing was estimated.

    A right label gives the same answer to both, so they differ by the share of wrong labels at most.
    """
    wrong = manifest.get("wrong_judgements")
    if wrong is None:
        return None
    reported = evaluation.intervals[_METRIC].mean
    return JudgedRecall(wrong, max(reported - wrong, 0.0), min(reported + wrong, 1.0))


def later(manifest: Mapping[str, Any]) -> str:
    """How recall on later photos may differ; empty if people judged, or for training sets of earlier releases."""
    held_out = manifest.get("held_out")
    if held_out is None:
        return ""
    if held_out["days_after_training"] is None:
        return (
            "These photos are from the same days as the training photos. Expect a lower recall from searches that "
            "come later: products, packaging and light change."
        )
    first, last = held_out["days_after_training"]
    return (
        f"These photos were taken {first:.1f} to {last:.1f} days after the last training photo. Searches that come "
        "later, or in another season, have not been measured."
        + (" Photos of unseen classes are from all days." if manifest["recipe"]["unseen_class_share"] else "")
    )


def _weakest(evaluation: Evaluation) -> Weakest | None:
    """The slice that is weak for certain: a slice of few photos may have a low recall by chance."""
    found = min(evaluation.slices.items(), key=lambda entry: entry[1].intervals[_METRIC].high, default=None)
    return found and Weakest(found[0], found[1].intervals[_METRIC].mean, found[1].queries)


def _recall_by_slice(evaluation: Evaluation) -> dict[str, float]:
    return {name: part.intervals[_METRIC].mean for name, part in evaluation.slices.items()}


def _confusions(
    evaluation: Evaluation, items: Mapping[str, Item], picture: gallery.Picture
) -> list[tuple[Confusion, gallery.GalleryItem, gallery.GalleryItem]]:
    return [
        (
            found,
            gallery.gallery_item(items, found.right, None, True, picture),
            gallery.gallery_item(items, found.answered, None, False, picture),
        )
        for found in confusions(evaluation, MAX_CONFUSIONS)
    ]
