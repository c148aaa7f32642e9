"""The first embedding of a stored vector, in each form that engines return."""

from __future__ import annotations

from typing import Any

import pytest

from immr.index.engines.engine import first_row


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
    assert first_row(vector).tolist() == pytest.approx([0.6, 0.8])
