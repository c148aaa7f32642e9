from collections.abc import Callable
from typing import Any

import pytest

from immr.errors import ContractError
from immr.governance.step_counts import EXAMPLES, Ledger
from immr.governance.workspace import Workspace

Table = Callable[[list[dict[str, Any]]], Any]


def rows(kept: int, dropped: int) -> list[dict[str, Any]]:
    return [
        {"query_id": f"q{n:03d}", "reason": "" if n < kept else "too dark", "detail": f"lux {n}"}
        for n in range(kept + dropped)
    ]


def test_rows_in_are_rows_out_plus_dropped(duckdb_workspace: Workspace, duckdb_table: Table) -> None:
    ledger = Ledger(duckdb_workspace)
    left = ledger.passed("light", "queries", duckdb_table(rows(3, 2)), drop=["detail"])
    (step,) = ledger.steps
    assert (step.rows_in, step.rows_out, step.dropped) == (5, 3, {"too dark": 2})
    assert left.columns == ("query_id",)
    assert duckdb_workspace.rows(left) == 3


def test_the_first_dropped_rows_are_kept_as_examples(
    duckdb_workspace: Workspace, duckdb_table: Table
) -> None:
    ledger = Ledger(duckdb_workspace)
    ledger.passed("light", "queries", duckdb_table(rows(1, EXAMPLES + 5)))
    assert [one.row["query_id"] for one in ledger.examples] == [f"q{n:03d}" for n in range(1, EXAMPLES + 1)]
    assert {(one.step, one.reason) for one in ledger.examples} == {("light", "too dark")}


def test_a_step_that_leaves_nothing_names_the_reason_and_the_first_row(
    duckdb_workspace: Workspace, duckdb_table: Table
) -> None:
    with pytest.raises(ContractError, match=r"after the step light: too dark \(2\); the first: lux 0"):
        Ledger(duckdb_workspace).passed("light", "queries", duckdb_table(rows(0, 2)))


def test_judgements_may_be_empty(duckdb_workspace: Workspace, duckdb_table: Table) -> None:
    ledger = Ledger(duckdb_workspace)
    ledger.passed("light", "judgements", duckdb_table(rows(0, 2)))
    assert ledger.steps[0].rows_out == 0


def test_a_disabled_step_is_listed_with_its_note(duckdb_workspace: Workspace, duckdb_table: Table) -> None:
    ledger = Ledger(duckdb_workspace)
    ledger.unchanged("light", "queries", duckdb_table(rows(4, 0)), "switched off")
    assert (ledger.steps[0].rows_out, ledger.steps[0].note) == (4, "switched off")
