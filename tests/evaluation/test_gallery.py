from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from immr.evaluation.gallery import choose, thumbnail


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
def test_failures_come_first_worst_first(ranks: list[int], limit: int, chosen: list[int]) -> None:
    assert choose(np.array(ranks), limit) == chosen


def test_a_thumbnail_is_small(pictures: Path) -> None:
    source = thumbnail(str(pictures / "0.png"))
    assert source.startswith("data:image/jpeg;base64,")
    assert len(source) < 4000
    assert thumbnail(str(pictures / "none.png")) == ""
