import threading

import pytest
import torch

from immr.train.inputs.batches import Rows
from immr.train.inputs.step_prefetch import Prefetched


def _steps(count):
    none = torch.zeros(0, dtype=torch.long)
    return [(step, Rows(torch.tensor([step]), none, none, none)) for step in range(count)]


@pytest.mark.parametrize("most", [0, 3])
def test_results_come_in_the_order_of_the_steps(most):
    prefetched = Prefetched(lambda rows, step: (int(rows.photos_B), step), most)
    assert [prefetched.of(rows, step) for step, rows in prefetched.ahead(_steps(7))] == [
        (n, n) for n in range(7)
    ]


def test_no_more_steps_are_prepared_than_allowed():
    done, first = [], threading.Event()

    def work(rows, step):
        done.append(step)
        if len(done) == 3:
            first.set()
        return step

    coming = (prefetched := Prefetched(work, 3)).ahead(_steps(10))
    next(coming)
    assert first.wait(60) and sorted(done) == [0, 1, 2]
    coming.close()
    assert not prefetched._ready
