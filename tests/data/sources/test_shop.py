"""Folders as Spark, Hive, Delta and notebooks leave them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import ITEMS
from immr.data.sources.shop import Shop
from immr.data.validation.tables import admit_table
from immr.errors import ContractError

ITEM = {
    "item_id": "a",
    "title": "Tea",
    "description": "",
    "category": "Drinks",
    "image": "a.jpg",
    "price": 1.0,
    "updated_at": datetime(2025, 6, 1, tzinfo=UTC),
}


def write(path: Path, without: str = "", **changes: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {name: value for name, value in (ITEM | changes).items() if name != without}
    pq.write_table(pa.Table.from_pylist([row]), path)


def admitted(source: Path | str, folder: Path, mapping: Path | None = None) -> list[dict[str, object]]:
    table = Shop.catalogue(source, mapping).table(ITEMS)
    assert table is not None
    admit_table(table, folder / "out")
    return pq.read_table(folder / "out" / "items.parquet").to_pylist()  # type: ignore[no-any-return]


def test_folders_of_unfinished_and_former_files_are_skipped(tmp_path: Path) -> None:
    write(tmp_path / "items" / "part-0.parquet")
    for folder in ("_temporary/0", "_delta_log", ".ipynb_checkpoints"):
        write(tmp_path / "items" / folder / "part-0.parquet", title="old", item_id=folder)
    for source in (tmp_path, f"{tmp_path}/items/**"):
        assert [row["title"] for row in admitted(source, tmp_path)] == ["Tea"]


@pytest.mark.parametrize("source", ["", "items/*/*/*.parquet"])
def test_folders_name_the_value_of_a_column(tmp_path: Path, source: str) -> None:
    write(tmp_path / "items/category=Fruit%2FApple/stock=0/1.parquet", "category", item_id="a")
    write(
        tmp_path / "items/category=Bread/stock=__HIVE_DEFAULT_PARTITION__/1.parquet", "category", item_id="b"
    )
    write(tmp_path / "items/category=ignored/stock=2/1.parquet", item_id="c", stock=5.0)
    found = admitted(tmp_path / source if source else tmp_path, tmp_path)
    rows = {row["item_id"]: (row["category"], row["stock"]) for row in found}
    assert rows == {"a": ("Fruit/Apple", 0.0), "b": ("Bread", None), "c": ("Drinks", 5.0)}


def test_empty_files_beside_others_are_skipped(tmp_path: Path) -> None:
    write(tmp_path / "items" / "part-0.parquet")
    (tmp_path / "items" / "part-1.csv").write_bytes(b"")
    assert [row["title"] for row in admitted(tmp_path, tmp_path)] == ["Tea"]
    (tmp_path / "items" / "part-2.parquet").write_bytes(b"")  # a writer that was interrupted
    with pytest.raises(ContractError, match=r"part-2\.parquet is not a readable Parquet file"):
        admitted(tmp_path, tmp_path)


def test_a_column_may_be_there_twice_if_nobody_reads_it(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ITEM, ITEM | {"item_id": "b", "price": -1.0}])
    columns = [*table.columns, *[pa.array([1, 2])] * 2, table["title"]]
    twice = pa.Table.from_arrays(columns[:-1], [*table.column_names, "x", "x"])
    pq.write_table(twice, tmp_path / "items.parquet")
    assert [row["item_id"] for row in admitted(tmp_path, tmp_path)] == ["a"]
    pq.write_table(twice.append_column("title", table["title"]), tmp_path / "items.parquet")
    with pytest.raises(ContractError, match="has the column title more than once"):
        admitted(tmp_path, tmp_path)


def test_a_json_file_is_a_table_unless_there_is_another(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"fields": []}')
    write(tmp_path / "items.parquet")
    assert [row["title"] for row in admitted(tmp_path, tmp_path)] == ["Tea"]
    (tmp_path / "items.parquet").unlink()
    with pytest.raises(ContractError, match=r"items\.json has no column item_id"):
        admitted(tmp_path, tmp_path)


@pytest.mark.parametrize("parts", ["items-1.parquet", "items/1.parquet", "items.parquet/1.parquet"])
def test_a_schema_beside_parts_does_not_hide_them(tmp_path: Path, parts: str) -> None:
    (tmp_path / "items.json").write_text('{"type": "object", "properties": {}}')
    (tmp_path / parts).parent.mkdir(exist_ok=True)
    write(tmp_path / parts)
    (out := tmp_path / "out").mkdir()
    assert [row["title"] for row in admitted(tmp_path, out)] == ["Tea"]


@pytest.mark.parametrize("name", ["schema.json", "manifest.json.gz", "part-1.JSON", "readme.txt"])
def test_a_json_or_text_file_is_a_part_unless_there_are_others(tmp_path: Path, name: str) -> None:
    write(tmp_path / "items" / "part-0.parquet")
    (tmp_path / "items" / name).write_text('{"fields": []}')
    for source in (tmp_path, f"{tmp_path}/items/*"):
        assert [row["title"] for row in admitted(source, tmp_path)] == ["Tea"]


def test_a_text_file_may_be_a_table(tmp_path: Path) -> None:
    row = ITEM | {"updated_at": "2025-06-01"}
    lines = "\n".join("\t".join(map(str, line)) for line in (row, row.values()))
    (tmp_path / "items.txt").write_text(lines)
    for source in (tmp_path, tmp_path / "items.txt"):
        assert [row["title"] for row in admitted(source, tmp_path)] == ["Tea"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("feed.xml", "is XML: export it as CSV or tab-separated text"),
        ("items.XLSX", "is a spreadsheet: save it as CSV"),
        ("export.zip", "is packed: unpack it"),
        ("items.bson", "is not read: export it as Parquet, CSV or JSON lines"),
        ("items.doc", "is neither .parquet nor .csv nor .jsonl: write it as one of them"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_remedy(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / name).write_text("x")
    (tmp_path / "map.toml").write_text(f'source = "{tmp_path}/{name}"')
    for of in (Shop.of, Shop.catalogue):
        for source in (tmp_path / name, tmp_path / "map.toml"):
            with pytest.raises(ContractError, match=f"{name} {why}"):
                of(source)


def test_a_relative_source_starts_at_the_folder_of_the_mapping(tmp_path: Path) -> None:
    """It started at the working folder, and the error did not name the place."""
    (tmp_path / "export").mkdir()
    (tmp_path / "map.toml").write_text('source = "export"\n[items]\nsource = "products.csv"\n')
    shop = Shop.of(tmp_path / "map.toml")
    assert shop.uri == str(tmp_path / "export")
    with pytest.raises(ContractError, match=f"{tmp_path}/export/products.csv has no table file"):
        shop.table(ITEMS)


def test_parts_may_all_be_json(tmp_path: Path) -> None:
    for item_id in "ab":
        row = ITEM | {"item_id": item_id, "updated_at": "2025-06-01T00:00:00Z"}
        (tmp_path / f"items-{item_id}.json").write_text(json.dumps(row))
    assert [row["item_id"] for row in admitted(tmp_path, tmp_path)] == ["a", "b"]


def test_a_key_may_be_repeated_if_nobody_reads_it(tmp_path: Path) -> None:
    line = json.dumps(ITEM | {"updated_at": "2025-06-01T00:00:00Z"})
    (tmp_path / "items.jsonl").write_text(line.replace("{", '{"x": 1, "x": 2, ', 1))
    assert [row["title"] for row in admitted(tmp_path, tmp_path)] == ["Tea"]
    (tmp_path / "map.toml").write_text('[items.columns]\ntitle = "x"\n')
    with pytest.raises(ContractError, match=r"line 1 of .* has 'x' more than once"):
        admitted(tmp_path, tmp_path, tmp_path / "map.toml")
    (tmp_path / "map.toml").write_text("[items.columns]\nprice = { sql = 'x * 2' }\n")
    with pytest.raises(ContractError, match=r"line 1 of .* has 'x' more than once"):
        admitted(tmp_path, tmp_path, tmp_path / "map.toml")


@pytest.mark.parametrize(("folder", "line"), [("items.csv", True), ("items.json", False)])
def test_a_folder_as_spark_names_it(tmp_path: Path, folder: str, line: bool) -> None:
    row = {**ITEM, "updated_at": "2025-06-01"}
    text = ",".join(row) + "\n" + ",".join(map(str, row.values())) if line else json.dumps(row)
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "_SUCCESS").write_text("")
    (tmp_path / folder / f"part-0.{folder[6:]}").write_text(text)
    assert [each["title"] for each in admitted(tmp_path, tmp_path)] == ["Tea"]


def test_a_spreadsheets_lock_file_is_no_table(tmp_path: Path) -> None:
    write(tmp_path / "items" / "part-0.parquet")
    (tmp_path / "items" / "~$items.csv").write_text("\x05Ann")
    assert [row["title"] for row in admitted(tmp_path, tmp_path)] == ["Tea"]


def test_a_relative_base_of_pictures_starts_at_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "items.parquet")
    (tmp_path / "map.toml").write_text('[pictures]\nbase = "img"\n')
    monkeypatch.chdir("/")
    [row] = admitted(tmp_path, tmp_path, tmp_path / "map.toml")
    assert row["image"] == str(tmp_path / "img" / "a.jpg")


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("Export of 2025-06-01,,\nitem_id,title,price\n")
    with pytest.raises(ContractError, match=r"has no column item_id, .*, not Export of 2025-06-01, column 2"):
        admitted(tmp_path / "items.csv", tmp_path)


def test_a_file_of_items_where_a_whole_shop_is_needed(tmp_path: Path) -> None:
    write(tmp_path / "items.parquet")
    with pytest.raises(
        ContractError, match=r"items\.parquet is one table, the items: give the folder that also has q"
    ):
        Shop.of(tmp_path / "items.parquet").tables()
