from collections.abc import Callable
from typing import Any

import pytest

from immr.governance.engines.rounding import on_grid
from immr.governance.workspace import Workspace


def test_numbers_are_rounded_to_a_grid_and_sum_exactly(
    workspace: Workspace, table: Callable[[list[dict[str, Any]]], Any]
) -> None:
    numbers = table([{"n": n, "x": x} for n, x in enumerate((0.1, 1 / 3, -0.1, 2.0**-21, 5.0))])
    rows = workspace.fetch(numbers.mutate(x=on_grid(numbers.x)), ["n"])
    found = [row["x"] for row in rows]
    assert all((x * 2**20).is_integer() for x in found)
    assert found == pytest.approx([0.1, 1 / 3, -0.1, 2.0**-20, 5.0], abs=2.0**-21)  # a tie rounds up
    assert sum(found) == sum(reversed(found))
