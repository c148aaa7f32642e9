import threading

import pytest

from immr.machine.prefetch import prefetched


@pytest.mark.parametrize("workers", [0, 3])
def test_results_come_in_order(workers):
    assert list(prefetched(lambda number: number**2, range(20), workers, most=4)) == [n**2 for n in range(20)]


def test_the_next_results_are_computed_while_one_is_used():
    second = threading.Event()
    results = prefetched(lambda number: second.set() if number == 1 else None, range(5), workers=1, most=3)
    next(results)
    assert second.wait(10)
    results.close()


def test_no_more_than_wanted_are_computed_ahead():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    results = prefetched(lambda number: number, items(), workers=2, most=3)
    assert next(results) == 0 and len(taken) == 3
    results.close()


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(prefetched(lambda number: 1 // number, [1, 0, 1], workers=2, most=2))
