"""How many rows each step of governance read, kept and dropped, with examples to look at."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from immr.errors import ContractError
from immr.governance.workspace import Workspace

_log = logging.getLogger(__name__)
EXAMPLES = 5  # per step and reason
_OPTIONAL = {"judgements"}
_SHOWN = (
    *("query_id", "item_id", "image", "detail", "share", "class_id", "weight"),
    *("clicked_item", "best_item", "given_score", "best_score"),
)


@dataclass(frozen=True)
class TableStep:
    """rows_in = rows_out + the sum of dropped."""

    name: str
    table: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason → rows
    note: str = ""


@dataclass(frozen=True)
class Example:
    """One row that a step dropped or changed: its image, and what else is known about it."""

    step: str
    reason: str
    rows: int  # how many rows the step dropped or changed for this reason
    row: Mapping[str, Any]


class Ledger:
    """Counts rows step by step, and keeps examples of those that were dropped or changed."""

    def __init__(self, workspace: Workspace) -> None:
        self._work = workspace
        self.steps: list[TableStep] = []
        self.examples: list[Example] = []

    def passed(self, step: str, name: str, table: Any, drop: Sequence[str] = (), note: str = "") -> Any:
        """Keep the rows whose `reason` is empty and count the others; drops the columns `reason` and `drop`.

        Raises:
            ContractError: no row is left, in a table that cannot be empty.
        """
        counts = self._work.fetch(table.group_by("reason").aggregate(rows=table.count()), ["reason"])
        dropped = {row["reason"]: row["rows"] for row in counts if row["reason"]}
        rows_in = sum(row["rows"] for row in counts)
        rows_out = rows_in - sum(dropped.values())
        self.steps.append(TableStep(step, name, rows_in, rows_out, dropped, note))
        _log.info("%s: %s of %s %s kept", step, f"{rows_out:,}", f"{rows_in:,}", name)
        if not rows_out and name not in _OPTIONAL:
            raise ContractError(self._nothing_left(step, name, table, dropped))
        if dropped:
            self.show(step, table, "reason")
        return table.filter(table.reason == "").drop("reason", *drop)

    def _nothing_left(self, step: str, name: str, table: Any, dropped: Mapping[str, int]) -> str:
        why = "; ".join(f"{reason} ({rows})" for reason, rows in dropped.items()) or "there were none"
        if "detail" in table.columns:
            (first,) = self._work.fetch(table, ["detail"], limit=1)
            why += f"; the first: {first['detail']}"
        return f"no {name} are left after the step {step}: {why}. Correct the data or the recipe"

    def unchanged(self, step: str, name: str, table: Any, note: str) -> None:
        """Record a step that drops nothing or is switched off."""
        rows = self._work.rows(table)
        self.steps.append(TableStep(step, name, rows, rows, note=note))

    def show(self, step: str, table: Any, column: str) -> None:
        """Keep the first rows of each reason in `column` as examples."""
        import ibis

        shown = [name for name in _SHOWN if name in table.columns]
        why = table.filter(table[column] != "").select(*shown, why=column)
        place = ibis.row_number().over(ibis.window(group_by=why.why, order_by=why[shown[0]]))
        of_reason = why.why.count().over(ibis.window(group_by=why.why))
        ranked = why.mutate(place=place, of_reason=of_reason)
        first = ranked.filter(lambda row: row.place < EXAMPLES).drop("place")
        for row in self._work.fetch(first, ["why", shown[0]]):
            self.examples.append(Example(step, row.pop("why"), row.pop("of_reason"), row))
