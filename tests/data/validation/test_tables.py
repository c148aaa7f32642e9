import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from immr.data.column_types import NOT_OF_TYPE
from immr.data.content_hashes import content_hash
from immr.data.contract import CONTRACT, TIMESTAMP
from immr.data.validation.tables import admit
from immr.errors import ContractError

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def item(item_id: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "item_id": item_id,
        "title": "Tea",
        "description": "",
        "category": "Drinks/Tea",
        "image": "/tea.jpg",
        "price": 2.5,
        "updated_at": NOON,
    }
    return {**row, **changes}


def query(query_id: str, **changes: object) -> dict[str, object]:
    return {"query_id": query_id, "user_id": "u", "ts": NOON, "image": "/q.jpg", **changes}


def impression(query_id: str, item_id: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "query_id": query_id,
        "item_id": item_id,
        "position": 1,
        "clicked": True,
        "ordered": False,
        "variant": "control",
        "model_version": "m",
        "ts": NOON,
    }
    return {**row, **changes}


def write(folder: Path, **tables: list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    rows = {"items": [item("a")], "queries": [query("q")], "impressions": [impression("q", "a")], **tables}
    for contract in CONTRACT:
        if contract.name in rows:
            table = pa.Table.from_pylist(rows[contract.name], contract.columns)
            pq.write_table(table, folder / f"{contract.name}.parquet")
    return folder


def reasons(path: Path) -> list[str]:
    return pq.read_table(path)["reason"].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("chunk_rows", [1, 3, 1000])
def test_invalid_rows_are_rejected_with_a_reason_and_counts_add_up(tmp_path: Path, chunk_rows: int) -> None:
    write(
        tmp_path / "in",
        items=[
            item("a", price=-1.0),
            item("a"),
            item("a"),
            item("b", title=None),
            item("c", price=float("inf")),
            item("d", category=" "),
            item("e", description=None),
            item(None),  # type: ignore[arg-type]
        ],
        queries=[query("q"), query("q"), query("r", user_id=None)],
        impressions=[
            impression("q", "a"),
            impression("q", "a", position=2),
            impression("q", "e", position=0),
            impression("q", "b"),
            impression("r", "e"),
            impression("q", "e", clicked=False, ordered=True),
            impression("q", "e", clicked=None),
        ],
        judgements=[
            {"query_id": "j", "image": "/j.jpg", "item_id": "a"},
            {"query_id": "q", "image": "/q.jpg", "item_id": "a"},
            {"query_id": "k", "image": "/k.jpg", "item_id": "zz"},
        ],
    )
    admission = admit(tmp_path / "in", tmp_path / "out", chunk_rows)
    for name, counts in admission.tables.items():
        assert counts.rows_in == counts.valid + sum(counts.rejected.values())
        assert pq.read_metadata(admission.path(name)).num_rows == counts.valid
    rejected = tmp_path / "out" / "rejected"
    assert reasons(rejected / "items.parquet") == [
        "price is negative",
        "duplicate item_id",
        "title is missing",
        "price is not finite",
        "category is empty",
        "item_id is missing",
    ]
    assert reasons(rejected / "queries.parquet") == ["duplicate query_id", "user_id is missing"]
    assert reasons(rejected / "impressions.parquet") == [
        "merged into the first row with the same query_id and item_id",
        "position is below 1: does it count from 0?",
        "item_id is not among the valid items",
        "query_id is not among the valid queries",
        "ordered but not clicked",
        "clicked is missing",
    ]
    assert reasons(rejected / "judgements.parquet") == [
        "query_id is also in queries",
        "item_id is not among the valid items",
    ]
    assert pq.read_table(admission.path("items"))["item_id"].to_pylist() == ["a", "e"]


def test_valid_tables_are_unchanged_and_nothing_is_rejected(tmp_path: Path) -> None:
    write(tmp_path / "in")
    admission = admit(tmp_path / "in", tmp_path / "out")
    for name in ("items", "queries", "impressions"):
        assert pq.read_table(admission.path(name)).equals(pq.read_table(tmp_path / "in" / f"{name}.parquet"))
    assert "judgements" not in admission.tables
    assert not list((tmp_path / "out" / "rejected").iterdir())


def test_a_table_may_be_a_folder_with_other_column_types(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    (folder / "items.parquet").unlink()
    (folder / "items").mkdir()
    text = {**item("a"), "price": "2.5", "updated_at": "2025-06-01T12:00:00Z", "extra": 1}
    pq.write_table(
        pa.Table.from_pylist([text, {**text, "item_id": "b", "price": "two"}]), folder / "items/0.parquet"
    )
    number = {**item("c"), "price": 3}
    pq.write_table(pa.Table.from_pylist([number, item("a")]), folder / "items/1.parquet")
    admission = admit(folder, tmp_path / "out")
    assert pq.read_table(admission.path("items"))["price"].to_pylist() == [2.5, 3.0]
    assert admission.tables["items"].rejected == {"duplicate item_id": 1, "price is not a number": 1}
    assert reasons(tmp_path / "out/rejected/items.parquet") == ["price is not a number"]
    assert reasons(tmp_path / "out/rejected/items-2.parquet") == ["duplicate item_id"]


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    pq.write_table(pq.read_table(folder / "queries.parquet").drop(["user_id"]), folder / "queries.parquet")
    with pytest.raises(ContractError, match=r"queries\.parquet has no column user_id"):
        admit(folder, tmp_path / "out")
    (folder / "queries.parquet").unlink()
    with pytest.raises(ContractError, match=r"queries\.parquet is missing: put the table"):
        admit(folder, tmp_path / "out")
    (folder / "queries.parquet").write_text("no parquet")
    with pytest.raises(ContractError, match="not a readable Parquet file"):
        admit(folder, tmp_path / "out")


def test_a_table_without_a_valid_row_is_refused_with_the_reasons(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a", price=-1.0), item("b", price=-1.0)])
    with pytest.raises(ContractError, match=r"none of its 2 rows meets .* price is negative \(2 rows\)"):
        admit(folder, tmp_path / "out")
    write(folder, items=[])
    with pytest.raises(ContractError, match="has no rows"):
        admit(folder, tmp_path / "out")


def test_a_column_of_an_unusable_type_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    pq.write_table(pa.Table.from_pylist([{**query("q"), "ts": [1, 2]}]), folder / "queries.parquet")
    with pytest.raises(ContractError, match="column ts holds list"):
        admit(folder, tmp_path / "out")


def changed(folder: Path, name: str, column: str, values: pa.Array) -> None:
    table = pq.read_table(folder / f"{name}.parquet")
    number = table.schema.get_field_index(column)
    pq.write_table(table.set_column(number, column, values), folder / f"{name}.parquet")


def broken_text(*contents: bytes) -> pa.Array:
    """A text column with bytes that are not UTF-8, as some writers produce."""
    right = pa.array(contents, pa.binary())
    return pa.StringArray.from_buffers(len(right), *right.buffers()[1:])


def test_text_that_is_not_utf8_rejects_only_its_row(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a"), item("b"), item("c")])
    changed(folder, "items", "title", broken_text(b"Tea", b"Caf\xe9", b"Milk"))
    changed(folder, "items", "description", broken_text(b"", b"", b"\xff"))
    admission = admit(folder, tmp_path / "out")
    reasons = {"title is not UTF-8 text": 1, "description is not UTF-8 text": 1}
    assert admission.tables["items"].rejected == dict(sorted(reasons.items()))
    aside = pq.read_table(tmp_path / "out/rejected/items.parquet").to_pylist()
    assert [row["title"] for row in aside] == ["Caf\ufffd", "Milk"]


@pytest.mark.parametrize(
    ("table", "column", "values", "reason"),
    [
        ("items", "price", pa.array(["2.50", "2,50 EUR"]), "price is not a number"),
        ("items", "stock", pa.array(["1", "a dozen"]), "stock is not a number"),
        ("items", "stock", pa.array([None, float("inf")]), "stock is not finite"),
        (
            "items",
            "updated_at",
            pa.array(["2025-06-01", "yesterday"]),
            "updated_at is not a valid time (ISO 8601, years 1 to 9999)",
        ),
        ("impressions", "clicked", pa.array(["True", "yes"]), "clicked is neither true nor false"),
        ("impressions", "position", pa.array([1.0, 1e30]), "position is beyond any list"),
        ("impressions", "position", pa.array([1.0, float("inf")]), "position is beyond any list"),
    ],
)
def test_a_value_of_the_wrong_type_is_rejected_with_that_reason(
    tmp_path: Path, table: str, column: str, values: pa.Array, reason: str
) -> None:
    folder = write(
        tmp_path / "in",
        items=[item("a", stock=None), item("b", stock=None)],
        impressions=[impression("q", "a"), impression("q", "b")],
    )
    changed(folder, table, column, values)
    admission = admit(folder, tmp_path / "out")
    assert dict(admission.tables[table].rejected) == {reason: 1}


def test_a_number_is_not_a_time_because_its_unit_is_unknown(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "queries", "ts", pa.array([1_750_000_000]))
    with pytest.raises(ContractError, match="seconds or microseconds"):
        admit(folder, tmp_path / "out")


def test_a_time_without_zone_is_utc(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "queries", "ts", pa.array([NOON.replace(tzinfo=None)]))
    admission = admit(folder, tmp_path / "out")
    assert pq.read_table(admission.path("queries"))["ts"].to_pylist() == [NOON]


def test_relative_picture_paths_start_at_the_tables(tmp_path: Path) -> None:
    images = ["photos/q.jpg", "/q.jpg", "file:///q.jpg", " "]
    folder = write(
        tmp_path / "in", queries=[query(f"q{n}", image=image) for n, image in enumerate(["q.jpg", *images])]
    )
    changed(folder, "impressions", "query_id", pa.array(["q0"]))
    admission = admit(folder, tmp_path / "out")
    assert pq.read_table(admission.path("queries"))["image"].to_pylist() == [
        f"{folder}/q.jpg",
        f"{folder}/photos/q.jpg",
        "/q.jpg",
        "file:///q.jpg",
    ]
    assert admission.tables["queries"].rejected == {"image is empty": 1}


def test_a_duplicate_column_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.append_column("title", table["title"]), folder / "items.parquet")
    with pytest.raises(ContractError, match=r"items\.parquet has the column title more than once"):
        admit(folder, tmp_path / "out")


def test_a_column_named_reason_is_replaced_in_the_rejected_rows(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a"), item("b", price=-1.0)])
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.append_column("reason", pa.array(["x", "y"])), folder / "items.parquet")
    admit(folder, tmp_path / "out")
    assert reasons(tmp_path / "out/rejected/items.parquet") == ["price is negative"]


def test_a_file_that_is_damaged_inside_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item(f"i{n}") for n in range(500)])
    content = bytearray((folder / "items.parquet").read_bytes())
    content[4:600] = b"\xff" * 596
    (folder / "items.parquet").write_bytes(content)
    with pytest.raises(ContractError, match=r"items\.parquet is not a readable Parquet file"):
        admit(folder, tmp_path / "out")


def test_rows_from_the_future_are_rejected(tmp_path: Path) -> None:
    later = NOON + timedelta(days=2)
    folder = write(
        tmp_path / "in",
        items=[item("a"), item("b", updated_at=later)],
        impressions=[impression("q", "a", ts=NOON + timedelta(hours=14)), impression("q", "b", ts=later)],
    )
    admission = admit(folder, tmp_path / "out", now=NOON)
    assert admission.tables["items"].rejected == {"updated_at is in the future": 1}
    assert admission.tables["impressions"].rejected == {"ts is in the future": 1}


def test_milliseconds_in_a_seconds_column_and_the_reverse_are_rejected(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", queries=[query("q"), query("r"), query("s")])
    seconds, milliseconds = int(NOON.timestamp()), 1000 * int(NOON.timestamp())
    times = pa.array([1000 * seconds, 1000 * milliseconds, seconds], pa.int64()).cast(pa.timestamp("ms"))
    changed(folder, "queries", "ts", times)
    assert admit(folder, tmp_path / "out").tables["queries"].rejected == {
        f"ts {NOT_OF_TYPE[TIMESTAMP]}": 1,
        "ts is before 2000: is its unit right?": 1,
    }


def test_ids_that_became_doubles_are_refused_with_a_remedy(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "items", "item_id", pa.array([1234567890123456789.0]))
    with pytest.raises(ContractError, match=r"column item_id holds double .* text or integers"):
        admit(folder, tmp_path / "out")


@pytest.mark.parametrize("chunk_rows", [1, 2, 1000])
def test_a_click_logged_after_its_impression_counts(tmp_path: Path, chunk_rows: int) -> None:
    folder = write(
        tmp_path / "in",
        items=[item("a"), item("b"), item("c")],
        impressions=[
            impression("q", "a", clicked=False),
            impression("q", "b", clicked=False, position=2),
            impression("q", "c", clicked=True),
            impression("q", "a", clicked=True, ordered=True, position=7),
            impression("q", "c", clicked=False),
            impression("q", "b", clicked=False),
        ],
    )
    admission = admit(folder, tmp_path / "out", chunk_rows)
    counts = admission.tables["impressions"]
    assert (counts.valid, dict(counts.rejected)) == (
        3,
        {"merged into the first row with the same query_id and item_id": 3},
    )
    rows = pq.read_table(admission.path("impressions")).to_pylist()
    found = [(row["item_id"], row["position"], row["clicked"], row["ordered"]) for row in rows]
    assert found == [("a", 1, True, True), ("b", 2, False, False), ("c", 1, True, False)]
    assert [path.name for path in (tmp_path / "out").glob("*impressions*")] == ["impressions.parquet"]


def test_a_stock_may_be_empty_or_a_number_but_not_words(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a"), item("b"), item("c")])
    changed(folder, "items", "stock", pa.array(["", "3", "sold out"]))
    admission = admit(folder, tmp_path / "out")
    assert admission.tables["items"].rejected == {"stock is not a number": 1}
    assert pq.read_table(admission.path("items"))["stock"].to_pylist() == [None, 3.0]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_csv_and_json_lines_give_the_same_rows_as_parquet(tmp_path: Path, suffix: str) -> None:
    rows = [item(f"000{n}", title="NAN", stock=n or None, price=1234567.125) for n in range(5)]
    folder = write(tmp_path / "in", items=rows, impressions=[impression("q", "0001")])
    expected = admit(folder, tmp_path / "expected")
    table = pq.read_table(folder / "items.parquet")
    (folder / "items.parquet").unlink()
    if "csv" in suffix:
        sink = pa.BufferOutputStream()
        csv.write_csv(table, sink)
        content = sink.getvalue().to_pybytes()
    else:
        lines = [json.dumps(row, default=str) for row in table.to_pylist()]
        content = "\n".join(lines).encode()
    (folder / f"items.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    found = admit(folder, tmp_path / "out", chunk_rows=2)
    assert found.tables["items"] == expected.tables["items"]
    assert pq.read_table(found.path("items")).equals(pq.read_table(expected.path("items")))


def test_a_malformed_csv_line_is_rejected_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a"), item("b")])
    csv.write_csv(pq.read_table(folder / "items.parquet"), folder / "items.csv")
    (folder / "items.parquet").unlink()
    with (folder / "items.csv").open("a") as file:
        file.write("c,Tea, green,,Drinks,/c.jpg,2.50,2025-01-01,,\nd\n")
    found = admit(folder, tmp_path / "out").tables["items"]
    reason = "malformed_line has too many or too few columns"
    assert (found.rows_in, found.valid, found.rejected) == (4, 2, {reason: 2})
    rejected = pq.read_table(tmp_path / "out/rejected/items.parquet").to_pylist()
    assert [(row["item_id"], row["reason"]) for row in rejected] == [("c", reason), ("d", reason)]
    assert rejected[1]["malformed_line"] == "d"


def test_json_lines_without_a_column_are_named(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"item_id": "a"}\n')
    with pytest.raises(ContractError, match=r"items\.jsonl has no column title"):
        content_hash(tmp_path / "items.jsonl", items_only=True)


def test_parts_may_be_in_one_folder_or_in_nested_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    for name, place in (("a", "items-1.parquet"), ("b", "items_2.parquet"), ("c", "items/day=1/x.parquet")):
        (folder / place).parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(pa.Table.from_pylist([item(name)], CONTRACT[0].columns), folder / place)
    (folder / "items/_SUCCESS").touch()
    (folder / "items.parquet").unlink()
    assert admit(folder, tmp_path / "out").tables["items"].valid == 3


def test_a_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    (folder / "items.csv").write_text("item_id\na\n")
    with pytest.raises(ContractError, match=r"items\.parquet and items\.csv, .*: keep one"):
        admit(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 .* opens a document"),
        ("{]", "line 2 .* is not JSON"),
        ("[1]", "is an array"),
        ('{"title": ["a"]}', "title is a list"),
    ],
)
def test_an_invalid_json_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = write(tmp_path / "in")
    (folder / "items.parquet").unlink()
    (folder / "items.jsonl").write_text(json.dumps(item("a"), default=str) + "\n" + line)
    with pytest.raises(ContractError, match=message):
        admit(folder, tmp_path / "out")


@pytest.mark.parametrize("word", ["null", "NULL", "NaN", " None ", "undefined", "#N/A", "\\N", "<NA>"])
def test_ids_that_were_lost_do_not_become_one_thing_or_one_user(tmp_path: Path, word: str) -> None:
    write(
        tmp_path / "in",
        items=[item("a"), item(word), item("Nan-1")],
        queries=[query("q"), query(word), query("r", user_id=word)],
        impressions=[impression("q", "a"), impression("q", word)],
    )
    found = admit(tmp_path / "in", tmp_path / "out").tables
    why = "is missing" if word == "\\N" else "stands for a missing value, as null and nan do"
    assert found["items"].rejected == {f"item_id {why}": 1} and found["items"].valid == 2
    assert found["queries"].rejected == {f"query_id {why}": 1, f"user_id {why}": 1}
    assert sum(found["impressions"].rejected.values()) == 1


@pytest.mark.parametrize("name", ["NA", "NAT", "Nan", "nat", "Null", "NONE"])
def test_brands_sizes_and_names_of_people_are_ids(tmp_path: Path, name: str) -> None:
    """All but NA were rejected as missing, because case did not matter."""
    write(
        tmp_path / "in",
        items=[item(name)],
        queries=[query("q", user_id=name)],
        impressions=[impression("q", name)],
    )
    assert [table.rejected for table in admit(tmp_path / "in", tmp_path / "out").tables.values()] == [{}] * 3


def test_texts_that_were_lost_are_missing(tmp_path: Path) -> None:
    """pandas writes them so after `astype(str)`; an item was called nan."""
    write(
        tmp_path / "in",
        items=[
            item("a", description="nan", images='["nan", "/more.jpg"]'),
            item("b", title="nan"),
            item("c", title=" None "),
            item("d", title="#N/A"),
            item("e", title="Nan bread", description="None of them"),
        ],
    )
    found = admit(tmp_path / "in", tmp_path / "out")
    why = "title stands for a missing value, as null and nan do"
    assert found.tables["items"].rejected == {why: 3}
    rows = {row["item_id"]: row for row in pq.read_table(found.path("items")).to_pylist()}
    assert {name: row["description"] for name, row in rows.items()} == {"a": "", "e": "None of them"}
    assert rows["a"]["images"] == '["/more.jpg"]'
