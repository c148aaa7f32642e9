from __future__ import annotations

import json

import pytest

from immr.events.journal_entries import Entry, Shown, from_line, to_line
from tests.events.test_journal import clicked, shown


@pytest.mark.parametrize("entry", [shown("q1"), clicked("q1")], ids=["shown", "clicked"])
def test_an_entry_survives_its_line(entry: Entry) -> None:
    assert from_line(to_line(entry)) == entry


def test_an_interleaved_answer_keeps_the_version_of_each_hit() -> None:
    search = shown("q1").search
    entry = Shown(search, (("a", 1), ("b", 2)), ("immr-1", "immr-2"))
    assert from_line(to_line(entry)) == entry
    assert [impression.model_version for impression in entry.impressions] == ["immr-1", "immr-2"]


def test_lines_of_releases_without_interleaving_are_read() -> None:
    line = json.loads(to_line(shown("q1")))
    del line["versions"]
    assert from_line(json.dumps(line).encode()) == shown("q1")


@pytest.mark.parametrize("line", [b"", b"{no json", b"1", b"{}", b'{"search": {}}', b'"search"', b"\xff"])
def test_a_line_that_is_not_an_entry_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        from_line(line)


def test_a_wrong_number_of_versions_is_a_value_error() -> None:
    line = json.loads(to_line(shown("q1"))) | {"versions": ["immr-1"]}
    with pytest.raises(ValueError, match="1 model versions for 2 items"):
        from_line(json.dumps(line).encode())
