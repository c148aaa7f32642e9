import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from immr.data.sources import json_rows
from immr.data.sources.files import FilePart
from immr.data.sources.locations import Location
from immr.errors import ContractError


def part(path: Path, content: str, encoding: str = "utf-8") -> FilePart:
    path.write_bytes(content.encode(encoding))
    return FilePart(Location.of(path), flat=frozenset({"title"}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
def test_a_mark_at_the_beginning_is_skipped(tmp_path: Path, name: str, encoding: str) -> None:
    found = part(tmp_path / name, '\n{"id": 1234567890123456789, "title": "ü"}\n', encoding)
    assert found.columns() == ["id", "title"]
    assert [batch.to_pylist() for batch in found.batches()] == [[{"id": "1234567890123456789", "title": "ü"}]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": 1, "price": 1, "price": 2}', "line 1 of .* has 'price' more than once"),
        ('{"id": ' + "[" * 100_000 + "}", "line 1 of .* is not JSON"),
        ("1", "line 1 of .* is not an object: write one object per line"),
        (
            '[{"id": 1}]',
            r"line 1 of .* is an array: write one object per line, for example with `jq -c '\.\[\]'`",
        ),
        ("[\n  {", "line 1 of .* opens a document over several lines: write one object per line"),
        ('{"title": ["a"]}', "title is a list or an object"),
    ],
)
def test_an_unusable_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        list(part(tmp_path / "a.jsonl", line).batches())


def test_a_repeated_key_is_refused_only_if_it_is_read(tmp_path: Path) -> None:
    line = '{"id": 1, "title": "a", "x": 1, "x": 2}'
    found = part(tmp_path / "a.jsonl", line)
    assert found.columns() == ["id", "title", "x"]
    with pytest.raises(ContractError, match=r"line 1 of .* has 'x' more than once"):
        list(found.batches())
    [batch] = replace(found, read=frozenset({"id", "title"})).batches()
    assert batch.to_pylist() == [{"id": "1", "title": "a", "x": "2"}]
    again = part(tmp_path / "a.jsonl", line.replace('"x": 2', '"x": 2, "title": "b"'))
    with pytest.raises(ContractError, match="has 'title' more than once"):
        list(replace(again, read=frozenset({"id", "title"})).batches())


def test_a_repeated_key_within_a_value_is_not_ours_to_judge(tmp_path: Path) -> None:
    [batch] = part(tmp_path / "a.jsonl", '{"id": 1, "extra": {"a": 1, "a": 2}}').batches()
    assert json.loads(batch["extra"][0].as_py()) == {"a": "2"}


def test_half_a_character_stays_in_its_row(tmp_path: Path) -> None:
    lines = '{"id": 1, "title": "a\\ud800"}\n{"id": 2, "title": "b", "x\\ud800": 1}\n'
    [batch] = part(tmp_path / "a.jsonl", lines).batches()
    assert batch.schema.names == ["id", "title", "x?"]
    assert batch["id"].to_pylist() == ["1", "2"] and batch["title"][1].as_py() == "b"
    with pytest.raises(UnicodeDecodeError):
        batch["title"][0].as_py()


def test_extended_json_of_mongodb_is_read_as_its_values(tmp_path: Path) -> None:
    lines = [
        {
            "_id": {"$oid": "65a1b2c3d4e5f60718293a01"},
            "price": {"$numberDecimal": "19.99"},
            "stock": {"$numberInt": "3"},
            "at": {"$date": "2025-11-28T10:05:00.000Z"},
            "tags": [{"$numberLong": "9007199254740993"}],
        },
        {
            "at": {"$date": {"$numberLong": "-1"}},
            "price": {"$unknown": "1"},
            "stock": {"$numberInt": ["1"]},
            "tags": {"$oid": "a", "b": "c"},
        },
    ]
    [batch] = part(tmp_path / "a.json", "\n".join(map(json.dumps, lines))).batches()
    assert batch.to_pylist() == [
        {
            "_id": "65a1b2c3d4e5f60718293a01",
            "price": "19.99",
            "stock": "3",
            "at": "2025-11-28T10:05:00.000Z",
            "tags": '["9007199254740993"]',
        },
        {
            "_id": None,
            "at": "1969-12-31T23:59:59.999000+00:00",
            "price": '{"$unknown": "1"}',
            "stock": '{"$numberInt": ["1"]}',
            "tags": '{"$oid": "a", "b": "c"}',
        },
    ]


def test_a_document_without_line_breaks_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_LINE", 100)
    found = part(tmp_path / "a.json", '{"id": 1}\n[{"id": ' + "1" * 200)
    assert found.columns() == ["id"]
    with pytest.raises(
        ContractError, match=r"line 2 of .* has no end within 100 characters: write one object"
    ):
        list(found.batches())


def test_long_lines_are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects with pictures in them did not fit into memory, 131,072 at a time."""
    monkeypatch.setattr(json_rows, "_CHUNK_CHARS", 50)
    lines = [json.dumps({"id": str(number), "title": "x" * 20}) for number in range(5)]
    found = part(tmp_path / "a.jsonl", "\n".join([*lines, "", "{broken"]))
    batches = found.batches()
    assert [batch["id"].to_pylist() for batch in islice(batches, 2)] == [["0", "1"], ["2", "3"]]
    with pytest.raises(ContractError, match="line 7 of"):
        list(batches)
