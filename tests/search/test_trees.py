import numpy as np
import pytest

from immr.search.trees import Tree, Trees

# signal 0 ≤ 1 ? (signal 1 ≤ 2 ? 10 : 20) : 30; leaves 0, 1, 2
SMALL = Tree(
    signals=[0, 1], thresholds=[1, 2], unknown_left=[True, False], lefts=[0b011, 0b001], values=[10, 20, 30]
)


@pytest.mark.parametrize(
    ("row", "expected"),
    [([0, 0], 10), ([1, 2], 10), ([0, 3], 20), ([2, 0], 30), ([np.nan, 3], 20), ([0, np.nan], 20)],
)
def test_a_row_ends_in_its_leaf(row: list[float], expected: float) -> None:
    assert Trees([SMALL]).predict(np.array([row])).tolist() == [expected]


def test_trees_of_different_sizes_add_up() -> None:
    only_leaf = Tree([], [], [], [], [0.5])
    rows = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert Trees([SMALL, only_leaf, SMALL]).predict(rows).tolist() == [20.5, 60.5]
    assert Trees([only_leaf]).predict(rows).tolist() == [0.5, 0.5]


def test_no_trees_add_nothing() -> None:
    assert Trees([]).predict(np.ones((3, 2))).tolist() == [0, 0, 0]


def test_no_rows_get_no_sums() -> None:
    assert Trees([SMALL]).predict(np.ones((0, 2))).tolist() == []
