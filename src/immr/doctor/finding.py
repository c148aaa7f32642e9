"""One line of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was checked, whether it is fine, what was found, and what to do if it is not fine."""

    what: str
    ok: bool
    found: str
    remedy: str
