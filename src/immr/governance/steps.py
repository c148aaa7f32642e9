"""What each step of governance took in, gave out and left behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """rows_in = rows_out + the sum of dropped."""

    name: str
    table: str
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason → rows
    note: str = ""
