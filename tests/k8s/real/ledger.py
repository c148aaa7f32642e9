"""What shoppers saw during a chaos run, what was acknowledged, and the verdict."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

NAMED_WITHIN_S = 60.0
BACK_WITHIN_S = 120.0


@dataclass
class Happened:
    """A fault that happened, in seconds from the start; None if it was never noticed, or never over."""

    name: str
    at_s: float
    named_after_s: float | None = None
    back_after_s: float | None = None


@dataclass
class Ledger:
    """Searches, acknowledged events and faults; safe to use from several threads.

    A search fails if it is answered with neither 200 nor 503 with Retry-After, or not at all.
    """

    searches: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, str]] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    faults: list[Happened] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answered(self, at_s: float, status: int, retry_after: str | None) -> None:
        """Count an answer to a search."""
        with self._lock:
            if status == 200:
                self.searches["answered"] += 1
            elif status == 503 and retry_after:
                self.searches["asked to come back"] += 1
            else:
                self.searches["failed"] += 1
                self.failures.append((at_s, f"status {status}"))

    def unanswered(self, at_s: float, reason: str) -> None:
        """Count a search that nobody answered."""
        with self._lock:
            self.searches["failed"] += 1
            self.failures.append((at_s, reason))

    def acknowledge(self, query_id: str) -> None:
        """Remember a click that was answered with 2xx."""
        with self._lock:
            self.acknowledged.add(query_id)

    def verdict(self, logged: Collection[str]) -> list[tuple[str, str, bool]]:
        """What was asked, what was found, and whether that is good enough.

        Args:
            logged: The query ids of the clicks in the event log.
        """
        lost = len(self.acknowledged - set(logged))
        unnamed = [one.name for one in self.faults if _later(one.named_after_s, NAMED_WITHIN_S)]
        away = [one.name for one in self.faults if _later(one.back_after_s, BACK_WITHIN_S)]
        total = sum(self.searches.values())
        return [
            (
                "failed searches",
                f"{self.searches['failed']} of {total}",
                total > 0 and not self.searches["failed"],
            ),
            (
                "acknowledged clicks lost",
                f"{lost} of {len(self.acknowledged)}",
                bool(self.acknowledged) and not lost,
            ),
            (
                f"faults noticed within {NAMED_WITHIN_S:.0f} s",
                _all_but(unnamed, len(self.faults)),
                not unnamed,
            ),
            (f"everything back within {BACK_WITHIN_S:.0f} s", _all_but(away, len(self.faults)), not away),
        ]


def _later(after_s: float | None, limit_s: float) -> bool:
    return after_s is None or after_s > limit_s


def _all_but(missing: list[str], total: int) -> str:
    found = f"{total - len(missing)} of {total}"
    return f"{found}; not: {', '.join(sorted(set(missing)))}" if missing else found
