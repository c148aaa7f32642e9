from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from immr.errors import DataError
from immr.evaluation.result import Evaluation

Model = Callable[[float], Evaluation]


def test_json_round_trip_keeps_every_field(model: Model, tmp_path: Path) -> None:
    evaluation = model(1.0)
    again = Evaluation.read(evaluation.write(tmp_path / "evaluation.json"))
    assert again.to_json() == evaluation.to_json()
    for field in dataclasses.fields(Evaluation):
        ours, theirs = getattr(evaluation, field.name), getattr(again, field.name)
        assert type(ours) is type(theirs), field.name
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        elif field.name != "per_query":
            assert ours == theirs


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"queries": 3}'])
def test_a_file_that_is_not_an_evaluation_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a stored evaluation"):
        Evaluation.from_json(text)
    with pytest.raises(DataError, match="there is no evaluation at"):
        Evaluation.read(tmp_path / "none.json")
