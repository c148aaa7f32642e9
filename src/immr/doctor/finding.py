"""What a doctor says: one line a thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's answer."""

    what: str
    ok: bool
    found: str
    remedy: str
