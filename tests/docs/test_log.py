"""The log of failed ideas stays readable: what was tried, what was measured, why it failed."""

from pathlib import Path

import pytest

LOG = (Path(__file__).parents[2] / "docs" / "log.md").read_text(encoding="utf-8")
ENTRIES = [
    [line for line in block.splitlines() if not line.startswith("## ")]
    for block in LOG.split("\n\n")[1:]
    if block.strip()
]


@pytest.mark.parametrize("lines", ENTRIES, ids=lambda lines: lines[0][:50])
def test_a_failed_idea_takes_three_lines(lines: list[str]) -> None:
    assert lines[0].startswith("**")
    assert len(lines) <= 3
    assert max(map(len, lines)) <= 150
