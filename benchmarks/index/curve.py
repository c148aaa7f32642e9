"""Recall against latency of the vector index: search width (`hnsw_ef`), int8 vectors, and rescoring.

    python -m benchmarks.index.curve --json curve.json --svg docs/images/index-curve.svg

Unit vectors without clusters, the hardest case for a graph. Each line is one index, each dot a width. A search's time
is processor time, the median of all queries, which a busy machine changes less than wall time. Recall is measured
against exact search.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from benchmarks.index.__main__ import Data, build
from immr.charts import svg
from immr.charts.lines import Point, Series, line_chart
from immr.charts.ticks import number_ticks
from immr.index.engines.edge import OVERSAMPLING, EdgeEngine
from immr.index.recall import recall_at_k
from immr.index.storages.folder_storage import EDGE, EDGE_INT8, EmbeddedEngine
from immr.types import Filters, FloatArray, ModelVersion

K = 10
WIDTHS = (10, 16, 32, 64, 128, 256)  # `hnsw_ef`; IMMR's default is in the collection's binding
INDEXES = {
    "float32": (EDGE, 1.0),
    "int8, rescoring twice as many": (EDGE_INT8, OVERSAMPLING),
    "int8, rescoring only the 10": (EDGE_INT8, 1.0),
}
STYLE = """<style>text { font: 12px system-ui, sans-serif; fill: #555 } .end { text-anchor: end }
.middle { text-anchor: middle } .grid { stroke: #ddd } .line { fill: none; stroke: var(--look); stroke-width: 2 }
.dot circle { fill: var(--look) } .dot .reach { fill: none } text.key { fill: var(--look) }
.series-0 { --look: #1f6feb } .series-1 { --look: #c2410c } .series-2 { --look: #6b7280 }</style>"""


def main(
    points: Annotated[int, typer.Option(help="Number of documents.")] = 12_000,
    dim: int = 256,
    queries: Annotated[int, typer.Option(help="For each dot.")] = 200,
    json_file: JsonFile = None,
    svg_file: Annotated[Path | None, typer.Option("--svg", help="Draw the chart here.")] = None,
) -> None:
    """Measure, print a table, and draw."""
    data = Data.of(points, dim, queries, uniform=True)
    with tempfile.TemporaryDirectory(prefix="immr-curve-") as place:
        shards = {
            kind.suffix: _built(Path(place) / f"index{kind.suffix}", kind, data) for kind in (EDGE, EDGE_INT8)
        }
        curves = {
            name: curve(shards[kind.suffix], data, oversampling)
            for name, (kind, oversampling) in INDEXES.items()
        }
    table = Table("index", "hnsw_ef", "recall@10", "p50, ms of a core")
    for name, dots in curves.items():
        for dot in dots:
            table.add_row(name, f"{dot['hnsw_ef']:.0f}", f"{dot['recall_at_10']:.3f}", f"{dot['p50_ms']:.2f}")
    Console().print(table)
    write_figures(json_file, {"curves": curves})
    if svg_file:
        svg_file.write_text(drawn(curves))


def _built(folder: Path, kind: EmbeddedEngine, data: Data) -> Path:
    """The folder of the index's shard."""
    version = ModelVersion("bench", 1, "key", "run", data.documents_ND.shape[1], "prep", "manifest", "none")
    build(folder, kind, version, data)
    [config] = folder.rglob("edge_config.json")
    return config.parent


def curve(shard: Path, data: Data, oversampling: float) -> list[dict[str, float]]:
    """A dot for each width."""
    dots = []
    with closing(EdgeEngine(shard, oversampling=oversampling)) as engine:
        for width in WIDTHS:

            def search(query_D: FloatArray, width: int = width) -> list[int]:
                [found] = engine.nearest(query_D, [Filters()], K, width)
                return [int(each.payload["item_id"]) for each in found]

            for query_D in data.queries_QD:  # the first pass reads from disk
                search(query_D)
            rows, took_ms = _timed(data.queries_QD, search)
            recall = recall_at_k(rows, data.queries_QD, data.documents_ND, K)
            dots.append(
                {"hnsw_ef": width, "recall_at_10": recall, "p50_ms": float(np.percentile(took_ms, 50))}
            )
    return dots


def _timed(
    queries_QD: FloatArray, search: Callable[[FloatArray], list[int]]
) -> tuple[list[list[int]], list[float]]:
    found, took_ms = [], []
    for query_D in queries_QD:
        start = time.process_time()
        found.append(search(query_D))
        took_ms.append(1000 * (time.process_time() - start))
    return found, took_ms


def drawn(curves: dict[str, list[dict[str, float]]]) -> str:
    """A file that needs no style sheet, with the lines' names in their colours."""
    series = [
        Series(name, [_point(dot) for dot in dots], row) for row, (name, dots) in enumerate(curves.items())
    ]
    chart = line_chart(
        series,
        name="index-curve",
        title="Recall against latency of the vector index",
        description="recall@10 over the median search time, a dot for each hnsw_ef",
        value_text=lambda value: f"{value:.1f}",
        x_ticks=number_ticks,
    )
    names = [
        Markup('<text class="key end {}" x="700" y="{}">{}</text>').format(
            each.css_class, 150 + 18 * row, each.name
        )
        for row, each in enumerate(series)
    ]
    axes = [svg.text(700, 214, "ms of a core per search →", "end"), svg.text(58, 22, "recall@10", "")]
    opening, _, rest = str(chart).partition(">")
    opening = opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"')
    body = rest.removesuffix("</svg>")
    return f"{opening}>{STYLE}{body}{Markup('').join([*names, *axes])}</svg>\n"


def _point(dot: dict[str, float]) -> Point:
    label = f"hnsw_ef {dot['hnsw_ef']:.0f}: recall@10 {dot['recall_at_10']:.3f}, {dot['p50_ms']:.2f} ms"
    return Point(dot["p50_ms"], dot["recall_at_10"], dot["recall_at_10"], dot["recall_at_10"], label)


if __name__ == "__main__":
    typer.run(main)
