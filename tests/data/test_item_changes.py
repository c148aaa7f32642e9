"""Changed items from Parquet and CSV, by the data contract."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from immr.data.item_changes import read_ids, read_items
from immr.errors import ContractError

CSV = """item_id,title,description,category,image,price,updated_at
007,A pear,,Fruit/Pear,pear.jpg,1.5,2025-01-01T12:00:00Z
008,An apple,red,Fruit/Apple,https://shop.example/a.jpg,2,2025-01-01T12:00:00Z
008,Twice,red,Fruit/Apple,a.jpg,2,2025-01-01T12:00:00Z
009,Negative,,Fruit/Apple,a.jpg,-1,2025-01-01T12:00:00Z
"""


def test_csv_keeps_ids_as_text_and_reports_rejected_rows(tmp_path):
    file = tmp_path / "changes.csv"
    file.write_text(CSV)
    read = read_items(file)
    assert [item.item_id for item in read.items] == ["007", "008"]
    assert [item.image for item in read.items] == [str(tmp_path / "pear.jpg"), "https://shop.example/a.jpg"]
    assert (read.items[0].price, read.items[0].updated_at) == (1.5, datetime(2025, 1, 1, 12, tzinfo=UTC))
    assert (read.counts.rows_in, read.counts.valid) == (4, 2)
    assert read.counts.rejected == {"duplicate item_id": 1, "price is negative": 1}
    assert read.counts.examples == {"duplicate item_id": ["008"], "price is negative": ["009"]}


def test_parquet(tmp_path):
    columns = {"item_id": ["a"], "title": ["A"], "description": [""], "category": ["X"], "image": ["/a.jpg"]}
    times = pa.array([datetime(2025, 1, 1)], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({**columns, "price": [1.0], "updated_at": times}), tmp_path / "i.parquet")
    assert [item.item_id for item in read_items(tmp_path / "i.parquet").items] == ["a"]


def test_stock_is_optional_and_may_be_unknown(tmp_path):
    header, *rows = CSV.splitlines()
    (tmp_path / "s.csv").write_text(
        "\n".join([f"{header},stock", f"{rows[0]},0", f"{rows[1]},", f"{rows[3]},-1"])
    )
    assert [item.stock for item in read_items(tmp_path / "s.csv").items] == [0.0, None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no file"),
        ("items.xlsx", "x", r"items.xlsx is a spreadsheet: save it as CSV"),
        ("feed.xml", "x", r"feed.xml is XML: export it as CSV or tab-separated text"),
        ("items.md", "x", "neither .parquet nor .csv"),
        ("items.parquet", "x", "not a readable Parquet"),
        ("items.csv", "item_id,title\na,b\n", "no column"),
        ("items.csv", CSV.splitlines()[0] + "\na,,,,,,\n", "its only row does not meet"),
        ("items.csv", "", "is empty, or has only a header"),
    ],
)
def test_other_files_are_refused_as_items(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ContractError, match=message):
        read_items(tmp_path / name)


def test_a_missing_file_is_named_although_the_mapping_has_a_source(tmp_path):
    (tmp_path / "map.toml").write_text('[items]\nsource = "export.csv"\n[items.columns]\nbrand = "Marke"\n')
    with pytest.raises(ContractError, match=r"there is no file .*none\.csv"):
        read_items(tmp_path / "none.csv", tmp_path / "map.toml")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_are_text_and_distinct(tmp_path, suffix):
    file = tmp_path / f"gone.{suffix}"
    if suffix == "csv":
        file.write_text("why,item_id\nsold,007\nsold,ü/b\nsold,007\n")
    else:
        pq.write_table(pa.table({"item_id": ["007", "ü/b", "007"], "why": ["sold"] * 3}), file)
    assert read_ids(file) == ["007", "ü/b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no file"),
        ("gone.md", "x", "neither .parquet nor .csv"),
        ("gone.txt", "4711\n", "neither .parquet nor .csv"),
        ("gone.parquet", "x", "no readable column item_id"),
        ("gone.csv", "id\na\n", "no readable column item_id"),
        ("gone.csv", "item_id,why\na,x\n,y\n", "without an item_id"),
    ],
)
def test_other_files_are_refused_as_ids(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ContractError, match=message):
        read_ids(tmp_path / name)


def test_five_of_many_rejected_items_are_named(tmp_path):
    header, row, *_ = CSV.splitlines()
    Image.new("RGB", (40, 40)).save(tmp_path / "pear.jpg")
    missing = [row.replace("007", str(number)).replace("pear.jpg", f"{number}.jpg") for number in range(9)]
    (tmp_path / "items.csv").write_text("\n".join([header, row, *missing]))
    read = read_items(tmp_path / "items.csv", pictures_dir=tmp_path / "pictures")
    assert [item.item_id for item in read.items] == ["007"]
    assert (read.counts.valid, read.counts.rejected) == (1, {"image cannot be read": 9})
    assert read.counts.examples["image cannot be read"] == [f"{n}: {tmp_path}/{n}.jpg" for n in range(5)]
