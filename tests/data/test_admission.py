from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.admission import admit
from immr.data.contract import CONTRACT
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
def test_bad_rows_go_aside_with_their_reason_and_counts_add_up(tmp_path: Path, chunk_rows: int) -> None:
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
        "duplicate query_id and item_id",
        "position is below 1",
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


def test_clean_tables_come_through_unchanged_and_leave_nothing_aside(tmp_path: Path) -> None:
    write(tmp_path / "in")
    admission = admit(tmp_path / "in", tmp_path / "out")
    for name in ("items", "queries", "impressions"):
        assert pq.read_table(admission.path(name)).equals(pq.read_table(tmp_path / "in" / f"{name}.parquet"))
    assert "judgements" not in admission.tables
    assert not list((tmp_path / "out" / "rejected").iterdir())


def test_a_table_may_be_a_folder_and_have_looser_types(tmp_path: Path) -> None:
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
    assert admission.tables["items"].rejected == {"duplicate item_id": 1, "price is no number": 1}
    assert reasons(tmp_path / "out/rejected/items.parquet") == ["price is no number"]
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
    with pytest.raises(ContractError, match="no readable Parquet file"):
        admit(folder, tmp_path / "out")


def test_a_table_without_a_valid_row_says_why(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a", price=-1.0), item("b", price=-1.0)])
    with pytest.raises(ContractError, match=r"none of its 2 rows .* price is negative \(2 rows\)"):
        admit(folder, tmp_path / "out")
    write(folder, items=[])
    with pytest.raises(ContractError, match="has no rows"):
        admit(folder, tmp_path / "out")


def test_a_column_of_a_useless_type_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    pq.write_table(pa.Table.from_pylist([{**query("q"), "ts": [1, 2]}]), folder / "queries.parquet")
    with pytest.raises(ContractError, match="column ts holds list"):
        admit(folder, tmp_path / "out")


def changed(folder: Path, name: str, column: str, values: pa.Array) -> None:
    table = pq.read_table(folder / f"{name}.parquet")
    number = table.schema.get_field_index(column)
    pq.write_table(table.set_column(number, column, values), folder / f"{name}.parquet")


def broken_text(*contents: bytes) -> pa.Array:
    """A column that says it is UTF-8, as other writers leave it behind."""
    right = pa.array(contents, pa.binary())
    return pa.StringArray.from_buffers(len(right), *right.buffers()[1:])


def test_text_in_another_encoding_rejects_its_row_alone_and_the_rest_can_be_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", items=[item("a"), item("b"), item("c")])
    changed(folder, "items", "title", broken_text(b"Tea", b"Caf\xe9", b"Milk"))
    changed(folder, "items", "description", broken_text(b"", b"", b"\xff"))
    admission = admit(folder, tmp_path / "out")
    reasons = {"title is no UTF-8 text": 1, "description is no UTF-8 text": 1}
    assert admission.tables["items"].rejected == dict(sorted(reasons.items()))
    aside = pq.read_table(tmp_path / "out/rejected/items.parquet").to_pylist()
    assert [row["title"] for row in aside] == ["Caf\ufffd", "Milk"]


@pytest.mark.parametrize(
    ("table", "column", "values", "reason"),
    [
        ("items", "price", pa.array(["2.50", "2,50 EUR"]), "price is no number"),
        ("items", "stock", pa.array(["1", "a dozen"]), "stock is no number"),
        ("items", "stock", pa.array([None, float("inf")]), "stock is not finite"),
        ("items", "updated_at", pa.array(["2025-06-01", "yesterday"]), "updated_at is no time in ISO 8601"),
        ("impressions", "clicked", pa.array(["True", "yes"]), "clicked is neither true nor false"),
        ("impressions", "position", pa.array([1.0, 1e30]), "position is beyond any list"),
        ("impressions", "position", pa.array([1.0, float("inf")]), "position is beyond any list"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_called_so(
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


def test_a_number_is_no_time_because_it_does_not_say_its_unit(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "queries", "ts", pa.array([1_750_000_000]))
    with pytest.raises(ContractError, match="seconds or microseconds"):
        admit(folder, tmp_path / "out")


def test_a_time_without_zone_is_utc(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "queries", "ts", pa.array([NOON.replace(tzinfo=None)]))
    admission = admit(folder, tmp_path / "out")
    assert pq.read_table(admission.path("queries"))["ts"].to_pylist() == [NOON]


def test_relative_pictures_lie_beside_the_tables(tmp_path: Path) -> None:
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


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(table.append_column("title", table["title"]), folder / "items.parquet")
    with pytest.raises(ContractError, match=r"items\.parquet has the column title more than once"):
        admit(folder, tmp_path / "out")


def test_a_column_of_the_name_reason_gives_way_among_the_rejected(tmp_path: Path) -> None:
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
    with pytest.raises(ContractError, match=r"items\.parquet is no readable Parquet file"):
        admit(folder, tmp_path / "out")
