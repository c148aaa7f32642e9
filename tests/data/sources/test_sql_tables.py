"""A table made by a query: several rows become one, one becomes several, others are left out."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import IMPRESSIONS, ITEMS
from immr.data.sources.files import FilePart
from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from immr.data.validation.tables import TableCounts, admit_table
from immr.errors import ContractError

DOCS = Path(__file__).parents[3] / "docs" / "mapping.md"
BY_PRODUCT = """
SELECT Handle AS item_id, max(Title) AS title, '' AS description, 'All' AS category,
    first(Image ORDER BY rowid) AS image, list(Image ORDER BY rowid)[2:] AS images,
    min(TRY_CAST(Price AS DOUBLE)) AS price, DATE '2025-06-01' AS updated_at
FROM rows GROUP BY Handle HAVING max(Status) = 'active'  -- what is sold
;
"""
ROWS = """Handle,Title,Image,Price,Status
tea,Green Tea,1.jpg,3.50,active
tea,,2.jpg,2.50,
old,Old Tea,3.jpg,1.00,draft
tea,,3.jpg,,
mug,Mug,4.jpg,9.00,active
"""


def mapped(folder: Path, toml: str) -> Path:
    (folder / "map.toml").write_text(toml)
    return folder / "map.toml"


def shop(folder: Path, sql: str = BY_PRODUCT, rows: str = ROWS) -> Shop:
    (folder / "products.csv").write_text(rows)
    return Shop.catalogue(folder / "products.csv", mapped(folder, f"[items]\nsql = '''{sql}'''\n"))


def admitted(source: Shop, folder: Path) -> tuple[TableCounts, list[dict[str, object]]]:
    table = source.table(ITEMS)
    assert table is not None
    counts = admit_table(table, folder / "out")
    return counts, pq.read_table(folder / "out" / "items.parquet").to_pylist()


def test_several_rows_become_one_item_with_its_pictures(tmp_path: Path) -> None:
    counts, [mug, tea] = admitted(shop(tmp_path), tmp_path)
    assert (counts.rows_in, counts.valid, dict(counts.rejected)) == (2, 2, {})
    assert (tea["title"], tea["price"], tea["image"]) == ("Green Tea", 2.5, f"{tmp_path}/1.jpg")
    assert json.loads(str(tea["images"])) == [f"{tmp_path}/2.jpg", f"{tmp_path}/3.jpg"]
    assert (mug["item_id"], mug["images"]) == ("mug", None)


def test_one_event_becomes_an_impression_for_each_of_its_items(tmp_path: Path) -> None:
    """The example of the docs: events of Google Analytics, as BigQuery exports them."""
    param = {"key": "search_id", "value": {"string_value": "s1", "int_value": None}}
    event = {
        "event_timestamp": 1_764_324_300_123_456,
        "event_params": [param],
        "items": [{"item_id": "a", "item_list_index": 0}, {"item_id": "b", "item_list_index": 1}],
    }
    events = [event | {"event_name": "view_item_list"}, event | {"event_name": "scroll"}]
    events += [event | {"event_name": "select_item", "items": event["items"][1:]}]  # type: ignore[index]
    (tmp_path / "ga4").mkdir()
    pq.write_table(pa.Table.from_pylist(events), tmp_path / "ga4" / "events.parquet")
    [toml] = [
        block for block in re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL) if "ga4" in block
    ]
    table = Shop.of(tmp_path, mapped(tmp_path, toml)).table(IMPRESSIONS)
    assert table is not None
    admit_table(table, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "impressions.parquet").to_pylist()
    assert [(row["query_id"], row["item_id"], row["position"], row["clicked"]) for row in rows] == [
        ("s1", "a", 1, False),
        ("s1", "b", 2, True),
    ]
    assert rows[0]["ts"].isoformat() == "2025-11-28T10:05:00.123456+00:00"


def test_columns_may_differ_by_file_and_line(tmp_path: Path) -> None:
    lines = [{"id": "a", "price": 1.5}, {"id": "b", "price": 2, 'Größe, "US"': "L"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "b.jsonl").write_text(json.dumps({"size": "M", "id": "c", "price": 3}))
    sql = """SELECT id AS item_id, coalesce("Größe, ""US""\", size, 'none') AS title, '' AS description,
        'All' AS category, id || '.jpg' AS image, price, '2025-06-01' AS updated_at FROM rows"""
    source = Shop.catalogue(f"{tmp_path}/*.jsonl", mapped(tmp_path, f"[items]\nsql = '''{sql}'''\n"))
    _, rows = admitted(source, tmp_path)
    assert [(row["item_id"], row["title"], row["price"]) for row in rows] == [
        ("a", "none", 1.5),
        ("b", "L", 2.0),
        ("c", "M", 3.0),
    ]


def test_lines_that_are_not_rows_are_rejected_with_their_text(tmp_path: Path) -> None:
    counts, rows = admitted(shop(tmp_path, rows=f"{ROWS}broken,Line\n"), tmp_path)
    assert (counts.rows_in, len(rows)) == (3, 2)
    assert dict(counts.rejected) == {"malformed_line has too many or too few columns": 1}
    [rejected] = pq.read_table(next((tmp_path / "out" / "rejected").glob("items*.parquet"))).to_pylist()
    assert rejected["malformed_line"] == "broken,Line"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT Nope FROM rows", 'items.sql fails: Binder Error: Referenced column "Nope" not found'),
        ("SELECT * FROM rows; DROP TABLE rows", "items.sql fails: Parser Error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM pq", "Table with name pq does not exist"),
        (
            BY_PRODUCT.replace("max(Title)", "max(CAST(Title AS DOUBLE))"),
            "Could not convert string 'Green Tea'",
        ),
    ],
)
def test_a_wrong_query_is_refused_with_its_reason(tmp_path: Path, sql: str, message: str) -> None:
    with pytest.raises(ContractError, match="correct the mapping") as caught:
        admitted(shop(tmp_path, sql), tmp_path)
    assert message in str(caught.value)


def test_missing_columns_are_those_of_the_result(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="has no column item_id, title") as caught:
        admitted(shop(tmp_path, "SELECT Handle FROM rows"), tmp_path)
    assert "products.csv" in str(caught.value)


def test_a_check_reports_the_result(tmp_path: Path) -> None:
    bad = BY_PRODUCT.replace("min(TRY_CAST(Price AS DOUBLE))", "max(Price)")
    [report] = check(shop(tmp_path, bad, ROWS.replace("9.00", "9 EUR")))
    assert [(each.reason, each.rows, each.example) for each in report.problems] == [
        ("price is not a number", 1, "'9 EUR'")
    ]


def test_a_query_changes_the_data_and_reads_alike_each_time(tmp_path: Path) -> None:
    source = shop(tmp_path)
    table = source.table(ITEMS)
    assert table is not None
    first, second = ([chunk.mapped for chunk in table.chunks(1)] for _ in range(2))
    assert first == second and len(first) == 2
    others = [Shop.catalogue(tmp_path / "products.csv"), shop(tmp_path, BY_PRODUCT.replace("'All'", "'Tea'"))]
    assert len({json.dumps(each.mapping.fingerprint()) for each in (source, *others)}) == 3
    assert table.parts[0].stamp()


def test_a_query_is_run_once_for_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[str]()
    batches = FilePart.batches
    monkeypatch.setattr(
        FilePart, "batches", lambda part, *args: read.append(part.place) or batches(part, *args)
    )
    counts, _ = admitted(shop(tmp_path), tmp_path)
    assert (counts.valid, len(read)) == (2, 1)
    read.clear()
    [report] = check(shop(tmp_path))
    assert (report.valid, len(read)) == (2, 1)


def test_a_query_without_a_needed_column_is_named_also_without_rows(tmp_path: Path) -> None:
    nothing = shop(tmp_path, "SELECT Handle AS item_id FROM rows WHERE Status = 'none'")
    with pytest.raises(ContractError, match="has no column title"):
        admitted(nothing, tmp_path)


def test_a_type_that_duckdb_does_not_know_is_named(tmp_path: Path) -> None:
    wide = pa.array([Decimal("1." + "1" * 40)], pa.decimal256(60, 40))
    pq.write_table(pa.table({"Handle": ["a"], "wide": wide}), tmp_path / "products.parquet")
    [report] = check(
        Shop.catalogue(tmp_path / "products.parquet", mapped(tmp_path, "[items]\nsql = 'FROM rows'\n"))
    )
    assert "items.sql fails" in report.error and "Decimal" in report.error
    expression = '[items.columns]\ntitle = { sql = "wide::VARCHAR" }\n'
    part = Shop.catalogue(tmp_path / "products.parquet", mapped(tmp_path, expression))
    with pytest.raises(ContractError, match="Decimal"):
        part.mapping.items.columns["title"].values(
            pa.RecordBatch.from_pydict({"wide": wide}), "title", "here"
        )
