import os

import pytest
import torch

from immr.machine.worker_processes import in_processes


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_from_other_processes(workers):
    found = list(in_processes(lambda n: (os.getpid(), torch.full((2,), n)), range(5), workers))
    assert [rows.tolist() for _, rows in found] == [[n, n] for n in range(5)]
    assert (os.getpid() in {pid for pid, _ in found}) is (workers == 0)


def test_an_error_in_a_process_is_raised_here():
    def work(number: int) -> int:
        if number == 1:
            raise ValueError("the second one")
        return number

    coming = in_processes(work, range(3), 2)
    assert next(coming) == 0
    with pytest.raises(ValueError, match="the second one"):
        list(coming)


def test_no_process_is_started_for_a_single_item():
    assert list(in_processes(lambda n: os.getpid(), range(1), 2)) == [os.getpid()]
