"""What each kind of query costs, in a catalogue with more items than a search ranks; and whether threads add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from immr.datasets.labelled_set import DatasetPhoto, LabelledSet
from immr.evaluation.metrics import unit_rows
from immr.index.vector_index import Collection
from immr.machine import cores
from immr.model.documents import PictureEmbeddings
from immr.model.query_encoder import OnnxQueryEncoder
from immr.search.evaluate_by_kind import searcher_of
from immr.search.grouping import MOST_MEMBERS
from immr.search.pages import Wanted
from immr.search.ranking import RankingRecipe
from immr.search.searcher import Searcher
from immr.types import FloatArray, Item, ModelVersion, Region

K = 10
PHOTOS = 60
COPIES = 12
"""Of each item, with its words and a disturbed embedding, so that rankings are as long as in a shop."""
PRODUCT = "product"
NOISE = 0.5  # length of the disturbance of a unit vector
SECONDS = 6.0


def latencies(
    version: ModelVersion,
    folder: Path,
    labelled: LabelledSet,
    documents_ND: FloatArray,
    photos: Sequence[DatasetPhoto],
) -> dict[str, float]:
    """p50 in ms, the time of other kinds as a multiple of a photo's, and the same of the CPU time of all threads.

    On a busy machine, CPU times are the steadier ones.

    Args:
        version: that searches.
        folder: its files.
        labelled: the catalogue.
        documents_ND: embeddings of its items.
        photos: held out.
    """
    copies = [
        replace(item, item_id=f"{item.item_id}-{copy}", attributes={PRODUCT: f"p{number}"})
        for copy in range(COPIES)
        for number, item in enumerate(labelled.items)
    ]
    noise_MD = np.random.default_rng(0).normal(size=(len(copies), documents_ND.shape[1]))
    rows_MD = np.tile(documents_ND, (COPIES, 1)) + NOISE * unit_rows(noise_MD.astype(np.float32))
    documents = PictureEmbeddings.one_each(unit_rows(rows_MD))
    with searcher_of(version, folder, copies, documents, RankingRecipe()) as searcher:
        p50, cpu = _medians(searcher, photos[: PHOTOS + 1], labelled.items)
    others = [kind for kind in p50 if kind != "photo"]
    return {
        **{f"{kind}_p50_ms": each for kind, each in p50.items()},
        **{f"{kind}_over_photo": p50[kind] / p50["photo"] for kind in others},
        "photo_cpu_ms": cpu["photo"],
        **{f"{kind}_cpu_over_photo": cpu[kind] / cpu["photo"] for kind in others},
    }


def _medians(
    searcher: Searcher, photos: Sequence[DatasetPhoto], items: Sequence[Item]
) -> tuple[dict[str, float], dict[str, float]]:
    """Times and CPU times in ms by kind. The kinds take turns, so that they see the same load of the machine."""
    contents = [Path(photo.image).read_bytes() for photo in photos]
    box = Region(0.1, 0.1, 0.8, 0.8)

    def title(row: int) -> str:
        return items[row % len(items)].title

    def title_in_category(row: int) -> str:
        return f"{items[row % len(items)].category.rsplit('/')[-1]} {title(row)}"

    def counted(row: int) -> None:
        assert searcher.search([contents[row]], Wanted(K)).hits
        searcher.facets(["category", "price"], Wanted(K).filters)

    kinds: dict[str, Callable[[int], object]] = {
        "photo": lambda row: searcher.search([contents[row]], Wanted(K)),
        "box": lambda row: searcher.search([contents[row]], Wanted(K), box),
        "text": lambda row: searcher.search([], Wanted(K, text=title(row))),
        "repeated_text": lambda row: searcher.search([], Wanted(K, text=title(row))),
        "photo_text": lambda row: searcher.search([contents[row]], Wanted(K, text=title_in_category(row))),
        "grouped": lambda row: searcher.search([contents[row]], Wanted(K, group_by="category")),
        "variants": lambda row: searcher.search([contents[row]], Wanted(K, group_by=PRODUCT)),
        "ten_variants": lambda row: searcher.search(
            [contents[row]], Wanted(K, group_by=PRODUCT, members=MOST_MEMBERS)
        ),
        "facets": counted,
    }
    took_ms: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu_ms: dict[str, list[float]] = {kind: [] for kind in kinds}
    for row in range(len(contents)):
        for kind, search in kinds.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            search(row)
            took_ms[kind].append(1000 * (time.perf_counter() - start))
            cpu_ms[kind].append(1000 * (time.process_time() - start_cpu))
    p50, cpu = (
        {kind: float(np.median(each[1:])) for kind, each in ms.items()}  # the first is a warm-up
        for ms in (took_ms, cpu_ms)
    )
    return p50, cpu


def worker_scaling(
    folder: Path, collection: Collection, photos: Sequence[DatasetPhoto], seconds: float = SECONDS
) -> dict[str, float]:
    """Photo searches per second of a worker process with a thread for each core, also as a multiple of one thread's.

    The limit of what cores can add in one worker; `benchmarks.serving` measures a Bento's `core_scaling`, with HTTP.

    Args:
        folder: of the version.
        collection: its index.
        photos: held out.
        seconds: of each measurement.
    """
    contents = [Path(photo.image).read_bytes() for photo in photos[:PHOTOS]]
    threads = cores.usable()
    encoder = OnnxQueryEncoder(folder, at_once=threads)
    searcher = Searcher(encoder, collection, None, RankingRecipe())
    one, all_cores = (_per_second(searcher, contents, count, seconds) for count in (1, threads))
    return {"searches_per_second": all_cores, "worker_scaling": all_cores / one}


def _per_second(searcher: Searcher, contents: Sequence[bytes], threads: int, seconds: float) -> float:
    """Finished searches per second of `threads` threads."""
    searcher.search([contents[0]], Wanted(K))
    end = time.perf_counter() + seconds

    def finished(first: int) -> int:
        count = 0
        while time.perf_counter() < end:
            searcher.search([contents[(first + count) % len(contents)]], Wanted(K))
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(finished, range(threads))) / seconds
