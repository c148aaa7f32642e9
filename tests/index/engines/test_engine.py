"""What engines have in common: how vectors are stored, and where a list of equal scores is cut."""

from __future__ import annotations

from typing import Any

import pytest

from immr.index.engines.engine import Found, best_with_ties, rows_of


@pytest.mark.parametrize(
    "vector",
    [
        [0.6, 0.8],
        {"": [0.6, 0.8], "words": object()},
        [[0.6, 0.8], [1.0, 0.0]],
        {"": [[0.6, 0.8], [1.0, 0.0]], "words": object()},
    ],
)
def test_one_or_several_embeddings_alone_or_beside_words(vector: Any) -> None:
    rows_PD = rows_of(vector)
    assert rows_PD.shape in ((1, 2), (2, 2))
    assert rows_PD[0].tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(("most", "left"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (9, 5)])
def test_a_cut_keeps_points_that_score_the_same_as_the_last(most: int, left: int) -> None:
    points = [Found(round(score), score, {}) for score in (3.0, 2.00001, 2.0, 1.99999, 1.0)]
    assert best_with_ties(points, most) == points[:left]
