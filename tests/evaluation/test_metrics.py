from __future__ import annotations

import numpy as np
import pytest
from pytrec_eval import RelevanceEvaluator
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import cosine_similarity

from immr.evaluation import metrics

SCORES_QN = np.array(
    [
        [0.9, 0.8, 0.7, 0.1],  # relevant first
        [0.9, 0.8, 0.7, 0.1],  # relevant third and fourth
        [0.5, 0.5, 0.5, 0.1],  # relevant ties with two others
        [0.2, 0.3, 0.4, 0.9],  # none relevant
    ],
    dtype=np.float32,
)
RELEVANT_QN = np.array([[1, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)


def per_query(scores_QN: np.ndarray, relevant_QN: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics by name, as `evaluate` computes them."""
    top_QK = np.take_along_axis(relevant_QN, metrics.best_first(scores_QN, relevant_QN, 10), axis=1)
    return metrics.rank_metrics(metrics.ranks(scores_QN, relevant_QN)) | metrics.list_metrics(
        top_QK, relevant_QN.sum(axis=1)
    )


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores_QN = generator.permuted(np.tile(np.linspace(-1, 1, 40, dtype=np.float32), (25, 1)), axis=1)
    classes_Q, classes_N = np.arange(25) % 8, generator.permutation(np.arange(40) % 8)
    return scores_QN, metrics.relevance(classes_Q, classes_N)


def test_ranks_are_pessimistic_at_ties() -> None:
    assert metrics.ranks(SCORES_QN, RELEVANT_QN).tolist() == [1, 3, 3, metrics.NEVER]


def test_the_order_of_documents_agrees_with_the_ranks() -> None:
    order_QK = metrics.best_first(SCORES_QN, RELEVANT_QN, 10)
    assert order_QK[2].tolist() == [0, 2, 1, 3]
    scores_QN, relevant_QN = random_case(0)
    order_QN = metrics.best_first(scores_QN, relevant_QN, 40)
    first_right_Q = np.take_along_axis(relevant_QN, order_QN, axis=1).argmax(axis=1) + 1
    assert metrics.ranks(scores_QN, relevant_QN).tolist() == first_right_Q.tolist()


@pytest.mark.parametrize("documents", [3, 10, 63, 64, 65, 1000])
@pytest.mark.parametrize("values", [4, 10_000])
def test_the_best_documents_are_those_of_a_full_sort(
    documents: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few values, most documents are tied."""
    monkeypatch.setattr(metrics, "_GROUPS", 16)
    generator = np.random.default_rng(documents)
    scores_QN = generator.integers(values, size=(20, documents)).astype(np.float32)
    relevant_QN = generator.random((20, documents)) < 0.2
    whole_QN = [
        np.lexsort((right_N, -scores_N)) for scores_N, right_N in zip(scores_QN, relevant_QN, strict=True)
    ]
    assert metrics.best_first(scores_QN, relevant_QN, 10).tolist() == [
        order[:10].tolist() for order in whole_QN
    ]
    first_right = [
        1 + int(right_N[order_N].argmax()) if right_N.any() else metrics.NEVER
        for right_N, order_N in zip(relevant_QN, whole_QN, strict=True)
    ]
    assert metrics.ranks(scores_QN, relevant_QN).tolist() == first_right


def test_all_metrics_of_a_hand_made_case() -> None:
    values = per_query(SCORES_QN, RELEVANT_QN)
    assert values["recall@1"].tolist() == [1, 0, 0, 0]
    assert values["recall@5"].tolist() == values["recall@10"].tolist() == [1, 1, 1, 0]
    assert values["mrr@10"].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 0])
    third, fourth, second = 1 / np.log2(4), 1 / np.log2(5), 1 / np.log2(3)
    assert values["ndcg@10"].tolist() == pytest.approx([1, (third + fourth) / (1 + second), third, 0])


def test_ranks_beyond_the_cut_off_score_zero() -> None:
    ranks_Q = np.array([1, 10, 11])
    assert metrics.recall_at(ranks_Q, 10).tolist() == [1, 1, 0]
    assert metrics.reciprocal_rank_at(ranks_Q).tolist() == pytest.approx([1, 0.1, 0])


@pytest.mark.parametrize("seed", range(3))
def test_ndcg_agrees_with_scikit_learn(seed: int) -> None:
    scores_QN, relevant_QN = random_case(seed)
    ours = per_query(scores_QN, relevant_QN)["ndcg@10"]
    theirs = [
        ndcg_score(relevant_QN[query : query + 1], scores_QN[query : query + 1], k=10) for query in range(25)
    ]
    assert ours.tolist() == pytest.approx(theirs)


@pytest.mark.parametrize("seed", range(3))
def test_all_metrics_agree_with_trec_eval(seed: int) -> None:
    """Without ties and with fewer relevant documents than the cut-off, where the definitions agree."""
    scores_QN, relevant_QN = random_case(seed)
    judged = {
        str(q): {str(n): int(right) for n, right in enumerate(row)} for q, row in enumerate(relevant_QN)
    }
    answered = {str(q): {str(n): float(s) for n, s in enumerate(row)} for q, row in enumerate(scores_QN)}
    measures = {"map_cut.10", "ndcg_cut.10", "recip_rank", "success.1,5,10"}
    found = RelevanceEvaluator(judged, measures).evaluate(answered)
    ours = per_query(scores_QN, relevant_QN)
    names = {"map@10": "map_cut_10", "ndcg@10": "ndcg_cut_10"}
    names |= {f"recall@{k}": f"success_{k}" for k in (1, 5, 10)}
    for name, theirs in names.items():
        assert ours[name].tolist() == pytest.approx([found[str(q)][theirs] for q in range(25)]), name
    first = [found[str(q)]["recip_rank"] for q in range(25)]
    assert ours["mrr@10"].tolist() == pytest.approx([value if value >= 0.1 else 0 for value in first])


def test_average_precision_by_hand() -> None:
    """The first and third answers are relevant; then more are relevant than the cut holds."""
    top_QK = np.array([[1, 0, 1, 0], [1, 1, 1, 1]], dtype=bool)
    counts_Q = np.array([2, 4])
    assert metrics.average_precision_at(top_QK, counts_Q, 10).tolist() == [(1 + 2 / 3) / 2, 1.0]
    assert metrics.average_precision_at(top_QK, counts_Q, 2).tolist() == [0.5, 1.0]
    assert metrics.average_precision_at(np.zeros_like(top_QK), np.zeros(2, dtype=int)).tolist() == [0, 0]


def test_cosine_agrees_with_scikit_learn_and_twins_tie() -> None:
    generator = np.random.default_rng(0)
    queries_QD = generator.normal(size=(7, 16)).astype(np.float32)
    documents_ND = generator.normal(size=(9, 16)).astype(np.float32)
    documents_ND[8] = documents_ND[0] * 3
    scores_QN = metrics.cosine_scores(metrics.unit_rows(queries_QD), metrics.unit_rows(documents_ND))
    np.testing.assert_allclose(scores_QN, cosine_similarity(queries_QD, documents_ND), atol=1e-6)
    assert scores_QN.dtype == np.float32
    np.testing.assert_allclose(scores_QN[:, 0], scores_QN[:, 8], atol=1.1e-6)


def test_a_model_that_scores_everything_alike_gets_zero() -> None:
    flat_QN = np.zeros((2, 30), dtype=np.float32)
    values = per_query(flat_QN, metrics.relevance(np.array([0, 1]), np.arange(30)))
    assert all(row_Q.sum() == 0 for row_Q in values.values())


def test_macro_means_weigh_every_class_the_same() -> None:
    values = {"recall@1": np.array([1.0, 1.0, 1.0, 0.0])}
    means = metrics.class_means(values, [5, 5, 5, 9])
    assert means["recall@1"].tolist() == [1.0, 0.0]
    assert metrics.summarize(values, [range(4)])["recall@1"].mean == 0.75
    assert metrics.summarize(means, [range(2)])["recall@1"].mean == 0.5


def test_summary_has_an_interval_for_each_metric() -> None:
    summary = metrics.summarize(per_query(*random_case(1)), [range(25)])
    assert list(summary) == ["recall@1", "recall@5", "recall@10", "mrr@10", "map@10", "ndcg@10"]
    for interval in summary.values():
        assert 0 <= interval.low <= interval.mean <= interval.high <= 1
