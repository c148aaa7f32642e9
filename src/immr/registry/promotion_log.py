"""The promotion log: every decision about a version, with its reason and numbers, one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class PromotionLog:
    """Append-only. A line that a crash cut off is left out when reading, and never glued to the next."""

    def __init__(self, path: Path) -> None:
        """Take the path; the file is made by the first decision."""
        self._path = path

    def record(
        self,
        action: str,
        reason: str,
        numbers: Mapping[str, float],
        champion: str | None,
        challenger: str | None,
        ts: datetime | None = None,
    ) -> dict[str, Any]:
        """Append a decision and return it as it was written.

        Args:
            action: "promote", "keep", "wait" or "roll back".
            reason: a sentence.
            numbers: what the decision rests on.
            champion: version id, before the decision.
            challenger: version id.
            ts: of the decision; now, where it is not given.
        """
        decision = {
            "ts": (ts or datetime.now(UTC)).isoformat(),
            "action": action,
            "reason": reason,
            "numbers": dict(numbers),
            "champion": champion,
            "challenger": challenger,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            cut_off = file.tell() > 0 and not self._path.read_bytes().endswith(b"\n")
            file.write(b"\n" * cut_off + json.dumps(decision, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return decision

    def read(self) -> list[dict[str, Any]]:
        """All decisions, oldest first."""
        if not self._path.is_file():
            return []
        decisions: list[dict[str, Any]] = []
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                decisions.append(json.loads(line))
            except ValueError:
                _log.warning("left out line %d of %s: it was cut off while written", number, self._path)
        return decisions
