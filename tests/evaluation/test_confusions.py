from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from immr.evaluation.confusions import Confusion, confusions
from immr.evaluation.result import Evaluation


def test_wrong_first_answers_are_counted_by_pair(model: Callable[[float], Evaluation]) -> None:
    evaluation = model(0.0)
    answers = [(right,) for right in evaluation.right_items]
    for query in (1, 13, 25):  # photos of i01
        answers[query] = ("i04",)
    answers[4] = ("i01",)
    answers[2] = ("i03",)
    answered = np.array(
        [[answer[0] == right] for answer, right in zip(answers, evaluation.right_items, strict=True)]
    )
    wrong = dataclasses.replace(evaluation, top_items=tuple(answers), top_right=answered)
    assert confusions(wrong, 2) == [Confusion("i01", "i04", 3, 5, 1), Confusion("i02", "i03", 1, 5, 0)]
    assert confusions(evaluation, 2) == []
