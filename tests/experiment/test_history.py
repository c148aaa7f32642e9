"""The history of tests: events in, tests out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from immr.experiment.history import Happening, TestEvent, append, read

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def event(test: str, what: Happening, hours: float, share: float = 0.5, by: str = "ann") -> TestEvent:
    return TestEvent(NOON + timedelta(hours=hours), test, what, by, "immr-1", "immr-2", share, f"{what}.")


def test_tests_are_read_newest_first_with_their_end(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert read(file) == []
    for each in (
        event("a", "started", 0, 0.1),
        event("a", "ramped", 1, 0.5),
        event("a", "promoted", 2, by="ben"),
        event("a", "promoted", 2.1),  # noted again after a crash
        event("b", "started", 3),
        event("a", "undone", 4),
    ):
        append(file, each)
    newest, oldest = read(file)
    assert (newest.name, newest.outcome, newest.ended) == ("b", "running", None)
    assert oldest.outcome == "promoted, undone later"
    assert (oldest.shares, oldest.ended, oldest.ended_by) == ((0.1, 0.5), NOON + timedelta(hours=2), "ben")
    assert oldest.reason == "promoted."
    assert len(oldest.events) == 5 and oldest.undone
    append(file, event("a", "restored", 5))
    assert (read(file)[1].outcome, read(file)[1].undone) == ("promoted, undone, then restored", False)
