from __future__ import annotations

import numpy as np
import pytest

from immr.evaluation import metrics
from immr.evaluation.exact_search import exact_search

QUERIES, DOCUMENTS, CLASSES = 23, 90, 7


@pytest.fixture
def case() -> tuple[np.ndarray, ...]:
    """Coarse embeddings, so that many scores tie."""
    generator = np.random.default_rng(0)
    queries_QD = generator.integers(-1, 2, (QUERIES, 3)).astype(np.float32) + 0.5
    documents_ND = generator.integers(-1, 2, (DOCUMENTS, 3)).astype(np.float32) + 0.5
    classes_N = np.arange(DOCUMENTS) % CLASSES
    own_Q = np.where(np.arange(QUERIES) % 3 == 0, -1, np.arange(QUERIES) * 3)
    return queries_QD, classes_N[own_Q], own_Q, documents_ND, classes_N


def test_it_agrees_with_a_full_sort(case: tuple[np.ndarray, ...]) -> None:
    queries_QD, classes_Q, own_Q, documents_ND, classes_N = case
    found = exact_search(*case)
    scores_QN = metrics.cosine_scores(metrics.unit_rows(queries_QD), metrics.unit_rows(documents_ND))
    relevant_QN = classes_Q[:, None] == classes_N
    order_QN = np.lexsort((relevant_QN, -scores_QN), axis=-1)
    np.testing.assert_array_equal(found.top, order_QN[:, :10])
    sorted_QN = np.take_along_axis(relevant_QN, order_QN, axis=1)
    np.testing.assert_array_equal(found.ranks, sorted_QN.argmax(axis=1) + 1)
    np.testing.assert_array_equal(found.top_right, sorted_QN[:, :10])
    np.testing.assert_array_equal(found.relevant_counts, relevant_QN.sum(axis=1))
    for query, own in enumerate(own_Q):
        tied_or_better = int((scores_QN[query] >= scores_QN[query, own]).sum())
        assert found.exact_ranks[query] == (tied_or_better if own >= 0 else 0)


@pytest.mark.parametrize("max_cells", [1, 4 * DOCUMENTS, 1_000_000])
def test_the_block_size_does_not_change_the_result(case: tuple[np.ndarray, ...], max_cells: int) -> None:
    whole, blocks = exact_search(*case), exact_search(*case, max_cells=max_cells)
    for name in ("ranks", "exact_ranks", "relevant_counts", "top", "top_scores", "top_right"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


def test_fewer_documents_than_k_are_all_returned() -> None:
    eye = np.eye(3, dtype=np.float32)
    found = exact_search(eye, np.arange(3), np.full(3, -1), eye, np.arange(3), k=10)
    assert found.top.shape == (3, 3)
    assert found.ranks.tolist() == [1, 1, 1]


def test_a_document_is_found_by_its_best_picture() -> None:
    pictures_PD = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)  # two of the first document
    query_1D, class_1, own_1, classes_N = np.array([[0, 1]], dtype=np.float32), [0], [0], np.array([0, 1])
    found = exact_search(
        query_1D, np.array(class_1), np.array(own_1), pictures_PD, classes_N, pictures_N=[2, 1]
    )
    assert (found.top.tolist(), found.exact_ranks.tolist()) == ([[0, 1]], [1])
    assert found.top_scores[0] == pytest.approx([1.0, 0.8])
