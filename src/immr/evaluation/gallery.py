"""The gallery: one HTML file that shows what a version gets right and wrong, with its numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from immr.data import images
from immr.errors import DataError
from immr.evaluation.evaluate import Evaluation
from immr.evaluation.gate import GateVerdict
from immr.evaluation.metrics import IntArray
from immr.files import write_whole
from immr.types import Item

THUMBNAIL_PX = 96
MAX_QUERIES = 40
_FAILURE_SHARE = 0.75


@dataclass(frozen=True)
class _Answer:
    """An item as a query sees it."""

    title: str
    picture: str
    score: float | None
    right: bool


@dataclass(frozen=True)
class _Shown:
    """One query of the gallery."""

    query_id: str
    picture: str
    rank: int
    right: _Answer
    answers: Sequence[_Answer]
    other_ranks: Mapping[str, int]


def write_gallery(
    evaluation: Evaluation,
    items: Sequence[Item],
    out: Path,
    *,
    name: str = "candidate",
    verdict: GateVerdict | None = None,
    comparisons: Mapping[str, Evaluation] | None = None,
    max_queries: int = MAX_QUERIES,
) -> Path:
    """Write the gallery as one self-contained file: the gate's sentence, metrics, slices, then queries.

    Failures come first, worst first; then some successes. A picture that cannot be read is a gap, no error.

    Args:
        evaluation: whose answers are shown.
        items: the documents it was evaluated against.
        out: the HTML file.
        name: of the evaluated version, "immr-3".
        verdict: of the gate.
        comparisons: other evaluations by name (the champion), for the table and for each query's rank.
        max_queries: shown at most.

    Returns:
        The path of the file.
    """
    from jinja2 import Environment, StrictUndefined

    others = dict(comparisons or {})
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        resources.files("immr.evaluation").joinpath("gallery.html.j2").read_text(encoding="utf-8")
    )
    page = template.render(
        name=name,
        evaluation=evaluation,
        columns={name: evaluation, **others},
        verdict=verdict,
        shown=_shown(evaluation, items, others, choose(evaluation.ranks, max_queries)),
        failures=int((evaluation.ranks > 1).sum()),
    )
    write_whole(out, page)
    return out


def choose(ranks_Q: IntArray, limit: int) -> list[int]:
    """Positions of the queries to show: failures, worst rank first, then successes spread over the set.

    At most three quarters are failures while there are successes to fill the rest.
    """
    worst_first = np.argsort(-ranks_Q, kind="stable")
    successes = np.flatnonzero(ranks_Q == 1)
    room = max(int(limit * _FAILURE_SHARE), limit - len(successes))
    failures = worst_first[ranks_Q[worst_first] > 1][:room]
    wanted = min(limit - len(failures), len(successes))
    spread = np.linspace(0, len(successes) - 1, wanted).round().astype(np.int64)
    return [int(index) for index in [*failures, *successes[spread]]]


def thumbnail(uri: str) -> str:
    """A small JPEG of a picture as a data URI; empty where the picture cannot be read."""
    try:
        image = images.decode(images.read(uri), min_side_px=THUMBNAIL_PX)
    except DataError:
        return ""
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def _shown(
    evaluation: Evaluation, items: Sequence[Item], others: Mapping[str, Evaluation], chosen: Sequence[int]
) -> list[_Shown]:
    by_id = {item.item_id: item for item in items}
    other_ranks = {
        name: dict(zip(other.query_ids, other.ranks.tolist(), strict=True)) for name, other in others.items()
    }
    picture = cache(thumbnail)

    def answer(item_id: str, score: float | None, right: bool) -> _Answer:
        item = by_id.get(item_id)
        return _Answer(item.title if item else item_id, picture(item.image) if item else "", score, right)

    shown = []
    for index in chosen:
        query = evaluation.queries[index]
        row = zip(
            evaluation.top_items[index],
            evaluation.top_scores[index].tolist(),
            evaluation.top_right[index].tolist(),
            strict=True,
        )
        shown.append(
            _Shown(
                query_id=query.query_id,
                picture=picture(query.image),
                rank=int(evaluation.ranks[index]),
                right=answer(evaluation.right_items[index], None, True),
                answers=[answer(*entry) for entry in row],
                other_ranks={
                    name: ranks[query.query_id]
                    for name, ranks in other_ranks.items()
                    if query.query_id in ranks
                },
            )
        )
    return shown
