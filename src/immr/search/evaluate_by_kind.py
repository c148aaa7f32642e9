"""Evaluates a version by kind of query, with the search that shoppers get, on a temporary index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from immr.data.training_set import LabelledPhoto
from immr.evaluation import metrics
from immr.evaluation.clusters import in_words
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.queries.kinds import KindQuery, KindResult, queries_of
from immr.index.qdrant import QdrantIndex
from immr.model.documents import PictureEmbeddings
from immr.model.query_encoder import OnnxQueryEncoder
from immr.model.text_query_encoder import TextQueryEncoder, has_text_encoder
from immr.search.pages import Wanted
from immr.search.ranking import RankingRecipe
from immr.search.searcher import Searcher
from immr.types import Item, ModelVersion

_K = 10


@contextmanager
def searcher_of(
    version: ModelVersion,
    folder: Path,
    items: Sequence[Item],
    documents: PictureEmbeddings,
    ranking: RankingRecipe,
) -> Iterator[Searcher]:
    """A version's search over items, without features, in a temporary index.

    Args:
        version: of the registry.
        folder: its files.
        items: the catalogue.
        documents: their embeddings by that version.
        ranking: the weights.
    """
    with TemporaryDirectory(prefix="immr-queries-") as place:
        index = QdrantIndex(f"edge://{place}/index")
        index.build(version, items, documents.rows_PD, pictures_N=documents.pictures_N)
        with closing(index.open(version.id, version.dim, version.preprocessing_hash)) as collection:
            texts = TextQueryEncoder(folder) if has_text_encoder(folder) else None
            yield Searcher(OnnxQueryEncoder(folder), collection, None, ranking, texts=texts)


def evaluate_by_kind(
    searcher: Searcher,
    kinds: Sequence[str],
    photos: Sequence[LabelledPhoto],
    items: Sequence[Item],
    item_classes: Sequence[int],
    recipe: GateRecipe,
) -> Mapping[str, KindResult]:
    """Recall and MRR of each kind, with intervals; any item of the query's class is correct.

    Args:
        searcher: of the version.
        kinds: some of `KINDS`.
        photos: held out.
        items: the catalogue.
        item_classes: class_id of each item.
        recipe: confidence of the intervals.
    """
    class_of = {item.item_id: class_id for item, class_id in zip(items, item_classes, strict=True)}
    results = {}
    for kind in kinds:
        of_kind = queries_of(kind, photos, items, item_classes)
        if not of_kind.queries:
            results[kind] = KindResult(0, "", reason="a scene needs photos of four classes")
            continue
        ranks_Q = np.array([_rank(searcher, query, class_of) for query in of_kind.queries], dtype=np.int64)
        intervals = metrics.summarize(
            metrics.rank_metrics(ranks_Q),
            [each.ids for each in of_kind.clusterings],
            recipe.confidence,
        )
        results[kind] = KindResult(len(ranks_Q), in_words(of_kind.clusterings), intervals)
    return results


def _rank(searcher: Searcher, query: KindQuery, class_of: Mapping[str, int]) -> int:
    hits = searcher.search(query.photos(), Wanted(_K, text=query.text), query.region).hits
    right = (rank for rank, hit in enumerate(hits, 1) if class_of[hit.item_id] == query.class_id)
    return next(right, metrics.NEVER)
