import numpy as np
import pytest

from immr.index.recall import are_unit_rows, recall_at_k, sample_rows


def _unit_rows(rows, dim, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_exact_neighbours_have_recall_one():
    documents_ND = _unit_rows(50, 8)
    queries_QD = documents_ND[:5]
    found = np.argsort(-queries_QD @ documents_ND.T, axis=1)[:, :10]
    assert recall_at_k(found.tolist(), queries_QD, documents_ND) == 1.0


def test_each_missed_neighbour_lowers_recall():
    documents_ND = _unit_rows(50, 8)
    ranked = np.argsort(-documents_ND[:1] @ documents_ND.T, axis=1)[0].tolist()
    assert recall_at_k([ranked[:7] + ranked[-3:]], documents_ND[:1], documents_ND) == pytest.approx(0.7)


def test_a_repeated_document_counts_once():
    documents_ND = _unit_rows(50, 8)
    ranked = np.argsort(-documents_ND[:1] @ documents_ND.T, axis=1)[0].tolist()
    assert recall_at_k([[ranked[0]] * 10], documents_ND[:1], documents_ND) == pytest.approx(0.1)


def test_ties_count_as_found():
    documents_ND = np.repeat(_unit_rows(1, 4), 30, axis=0)
    assert recall_at_k([list(range(20, 30))], documents_ND[:1], documents_ND) == 1.0


def test_fewer_documents_than_k():
    documents_ND = _unit_rows(3, 4)
    assert recall_at_k([[0, 1, 2]], documents_ND[:1], documents_ND, k=10) == 1.0


def test_samples_are_reproducible_and_within_range():
    assert sample_rows(5, 100).tolist() == [0, 1, 2, 3, 4]
    assert sample_rows(1000, 10).tolist() == sample_rows(1000, 10).tolist()
    assert len(set(sample_rows(1000, 10).tolist())) == 10


def test_unit_rows():
    assert are_unit_rows(_unit_rows(4, 3))
    assert not are_unit_rows(2 * _unit_rows(4, 3))
    assert not are_unit_rows(np.full((1, 3), np.nan, dtype=np.float32))


def test_a_document_is_as_similar_as_its_best_row() -> None:
    rows_PD = np.eye(4, dtype=np.float32)
    first_N = np.array([0, 2, 3, 4])
    assert recall_at_k([[0]], rows_PD[1:2], rows_PD, k=1, first_N=first_N) == 1.0
    assert recall_at_k([[1]], rows_PD[1:2], rows_PD, k=1, first_N=first_N) == 0.0
