"""The table that serving benchmarks print."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def show(figures: dict[str, float]) -> None:
    """Print each figure under its name."""
    table = Table("figure", "value", title="serving")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
