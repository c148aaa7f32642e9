from pathlib import Path

import numpy as np

from immr.storage.scratch import rows_at, scratch


def test_the_file_is_deleted_with_the_array() -> None:
    before = _mapped()
    rows_ND = scratch((1000, 8))
    assert (rows_ND.dtype, rows_ND.any()) == (np.float32, np.False_)
    rows_ND[3] = 1
    assert rows_ND[2:5].sum() == 8
    assert _mapped() == before + 1
    del rows_ND
    assert _mapped() == before


def test_an_array_may_be_empty() -> None:
    assert scratch((0, 8)).shape == (0, 8)


def test_rows_are_taken_in_the_order_of_their_places() -> None:
    rows_ND = np.arange(12, dtype=np.float32).reshape(4, 3)
    places_M = np.array([3, 0, 0])
    np.testing.assert_array_equal(rows_at(rows_ND, places_M), rows_ND[places_M])
    assert rows_at(rows_ND, places_M[:0]).shape == (0, 3)


def _mapped() -> int:
    return sum("/immr-" in line for line in Path("/proc/self/maps").read_text().splitlines())
