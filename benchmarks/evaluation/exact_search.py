"""What does exact search cost at evaluation? Partition per block beside a full sort per photo.

    python -m benchmarks.evaluation.exact_search --json exact_search.json
    python -m benchmarks.evaluation.exact_search --documents 100000 --photos 100      # smaller

Random unit embeddings. The full sort is what IMMR did before: `lexsort` of every photo's scores for each of
three metrics. It is timed on a few photos and reported per photo; both produce the same ranks and lists.
"""

from __future__ import annotations

import resource
import time
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.evaluation import metrics
from immr.evaluation.exact_search import SearchResult, exact_search
from immr.types import FloatArray


def main(
    documents: int = 1_000_000,
    photos: int = 1000,
    dim: int = 256,
    sorted_photos: Annotated[int, typer.Option(help="Photos to time the full sort on.")] = 8,
    json_file: JsonFile = None,
) -> None:
    """Seconds per photo and peak memory of exact search."""
    generator = np.random.default_rng(0)
    documents_ND = generator.standard_normal((documents, dim), dtype=np.float32)
    classes_N = np.arange(documents) % max(1, documents // 2)  # two documents per class
    own_Q = generator.integers(0, documents, photos)
    noise_QD = generator.standard_normal((photos, dim), dtype=np.float32)
    queries_QD = documents_ND[own_Q] + 3 * noise_QD
    start = time.perf_counter()
    found = exact_search(queries_QD, classes_N[own_Q], own_Q, documents_ND, classes_N)
    partition_s = (time.perf_counter() - start) / photos
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    few = slice(0, sorted_photos)
    sort_s, same = _full_sort(queries_QD[few], classes_N[own_Q[few]], documents_ND, classes_N, found)
    figures = {
        "documents": float(documents),
        "photos": float(photos),
        "partition_s_per_photo": partition_s,
        "sort_s_per_photo": sort_s,
        "ratio": sort_s / partition_s,
        "total_s": partition_s * photos,
        "peak_gib": peak_gib,
        "embeddings_gib": 4 * dim * documents / 2**30,
        "same_answers": float(same),
    }
    table = Table("figure", "value", title=f"exact search, {documents:,} documents × {photos:,} photos")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.4g}")
    Console().print(table)
    write_figures(json_file, figures)


def _full_sort(
    queries_QD: FloatArray,
    query_classes_Q: metrics.IntArray,
    documents_ND: FloatArray,
    classes_N: metrics.IntArray,
    found: SearchResult,
) -> tuple[float, bool]:
    """Seconds per photo of sorting all scores three times, and whether the lists agree with `found`."""
    documents_ND = metrics.unit_rows(documents_ND)
    start, same = time.perf_counter(), True
    for number, (query_D, query_class) in enumerate(zip(queries_QD, query_classes_Q, strict=True)):
        scores_1N = metrics.cosine_scores(metrics.unit_rows(query_D[None]), documents_ND)
        relevant_1N = metrics.relevance(np.array([query_class]), classes_N)
        for _ in range(3):  # for the list shown, map@10 and ndcg@10
            order_1N = np.lexsort((relevant_1N, -scores_1N), axis=-1)
        same &= bool((order_1N[0, :10] == found.top[number]).all())
    return (time.perf_counter() - start) / len(queries_QD), same


if __name__ == "__main__":
    typer.run(main)
