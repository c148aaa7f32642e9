from __future__ import annotations

import numpy as np
import pytest

from immr.evaluation.gallery import choose


@pytest.mark.parametrize(
    ("ranks", "limit", "chosen"),
    [
        ([1, 5, 2, 1, 9], 4, [4, 1, 2, 0]),
        ([3, 5, 2, 4, 9], 2, [4, 1]),
        ([1, 1, 1, 1, 1], 3, [0, 2, 4]),
        ([1, 2], 10, [1, 0]),
        ([2, 3, 4, 5, 6, 1, 1], 4, [4, 3, 2, 5]),
        ([1], 0, []),
    ],
)
def test_failures_come_first_and_the_worst_of_them_first(
    ranks: list[int], limit: int, chosen: list[int]
) -> None:
    assert choose(np.array(ranks), limit) == chosen
