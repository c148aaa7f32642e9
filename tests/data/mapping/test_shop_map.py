"""The mapping file: what it changes, and its errors."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import ITEMS
from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.shop_map import ShopMap
from immr.data.sources.shop import Shop
from immr.data.validation.tables import admit, admit_table
from immr.errors import ContractError

CSV = """Artikelnr;Bezeichnung;Preis;Cents;Ebene 1;Ebene 2;Bild;Stand;Aktiv;Bestand
100;Kanne;1.299,00 €;129900;Küche;Kannen;kanne.jpg;31.12.2024 10:00;J;3
101;Tasse;aus;900;Küche;;tasse.jpg;31.12.2024 10:00;N;ausverkauft
"""


def admitted(folder: Path, mapping: str, text: str = CSV) -> list[dict[str, object]]:
    (folder / "artikel.csv").write_text(text)
    (folder / "map.toml").write_text(mapping)
    table = Shop.catalogue(folder / "artikel.csv", folder / "map.toml").table(ITEMS)
    assert table is not None
    admit_table(table, folder / "out")
    return pq.read_table(folder / "out" / "items.parquet").to_pylist()  # type: ignore[no-any-return]


COLUMNS = """
[items.columns]
item_id = "Artikelnr"
title = "Bezeichnung"
description = { value = "" }
category = { columns = ["Ebene 1", "Ebene 2"] }
image = { column = "Bild", prefix = "https://cdn.example/img/" }
updated_at = { column = "Stand", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
"""


def test_rules_of_each_kind(tmp_path: Path) -> None:
    stock = """stock = { sql = "CASE WHEN Bestand = 'ausverkauft' THEN 0 ELSE Bestand::DOUBLE END" }"""
    price = "price = { column = 'Cents', times = 0.01 }"
    first, second = admitted(tmp_path, f"{COLUMNS}\n{price}\n{stock}")
    assert first["item_id"] == "100" and first["category"] == "Küche/Kannen"
    assert first["image"] == "https://cdn.example/img/kanne.jpg"
    assert first["price"] == pytest.approx(1299) and first["updated_at"].hour == 9  # type: ignore[attr-defined]
    assert (second["category"], second["stock"], first["stock"]) == ("Küche", 0.0, 3.0)


def test_unreadable_values_are_rejected_with_their_original_text(tmp_path: Path) -> None:
    [only] = admitted(tmp_path, f"{COLUMNS}\nprice = {{ column = 'Preis', decimal = ',' }}")
    assert (only["item_id"], only["price"]) == ("100", 1299.0)
    [rejected] = pq.read_table(tmp_path / "out" / "rejected" / "items.parquet").to_pylist()
    assert (rejected["Preis"], rejected["reason"]) == ("aus", "price is not a number")


def test_a_default_replaces_empty_and_missing_values(tmp_path: Path) -> None:
    price = "price = { column = 'Preis', decimal = ',', default = 0 }"
    rows = admitted(tmp_path, f"{COLUMNS}\n{price}", CSV.replace("1.299,00 €", "").replace("aus;", "5,00;"))
    assert [row["price"] for row in rows] == [0.0, 5.0]


@pytest.mark.parametrize("reason", ["Artikelnr", "the mapping takes item_id"])
def test_a_mapped_column_must_exist(tmp_path: Path, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        admitted(tmp_path, COLUMNS, CSV.replace("Artikelnr", "SKU"))


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ("[items", "cannot be read"),
        ("[item]\n", "item: "),
        ("[queries.columns]\ncolour = 'Farbe'", "queries.columns.colour: the table has no such column"),
        ("[items.columns]\nprice = { columm = 'Preis' }", r"columns\.price"),
        ("[items.columns]\nprice = { decimal = ',' }", "one of column, columns, value and sql, not 0"),
        ("[items.columns]\nprice = { column = 'a', decimal = ';' }", r"columns\.price\.decimal"),
        (
            "[items.columns]\nprice = { column = 'a', decimal = ',', unit = 'ms' }",
            "decimal and unit contradict",
        ),
        (
            "[items.columns]\nprice = { column = 'a', decimal = ',', prefix = '1' }",
            "prefix applies to texts and pictures only",
        ),
    ],
)
def test_an_invalid_file_is_reported_in_one_sentence(tmp_path: Path, mapping: str, fault: str) -> None:
    (tmp_path / "map.toml").write_text(mapping)
    with pytest.raises(ContractError, match=fault):
        ShopMap.read(tmp_path / "map.toml")


def test_an_attribute_is_mapped_like_other_columns_once_it_is_declared(tmp_path: Path) -> None:
    mapping = f'{COLUMNS}\nprice = {{ column = "Preis", decimal = ",", default = 0 }}\nlevel = "Ebene 1"'
    with pytest.raises(ContractError, match=r"items.columns.level: .* declare it in attributes.toml"):
        admitted(tmp_path, mapping)
    (tmp_path / "attributes.toml").write_text('level = "keyword"\n')
    assert [row["attributes"] for row in admitted(tmp_path, mapping)] == ['{"level": "Küche"}']


def test_positions_that_count_from_zero(tmp_path: Path) -> None:
    rule = ColumnRule(column="Platz", plus=1.0)
    rows = pa.record_batch({"Platz": pa.array(["0", "7", "", None])})
    assert rule.values(rows, "position", "here").to_pylist() == ["1", "8", "", None]
    numbers = pa.record_batch({"Platz": pa.array([0, 7])})
    assert rule.values(numbers, "position", "here").to_pylist() == [1.0, 8.0]


@pytest.mark.parametrize("sql", ["Preis +", "nothing_there", "read_csv('/etc/passwd')"])
def test_an_invalid_expression_names_its_column(tmp_path: Path, sql: str) -> None:
    with pytest.raises(ContractError, match="the mapping of price does not fit"):
        admitted(tmp_path, f'{COLUMNS}\nprice = {{ sql = "{sql}" }}')


def test_a_mapping_alone_may_define_a_shop(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["q"]}), tmp_path / "q.parquet")
    (tmp_path / "shop.toml").write_text("[queries]\nsource = 'q.parquet'")
    with pytest.raises(ContractError, match="does not name its source"):
        admit(tmp_path / "shop.toml", tmp_path / "out")
    (tmp_path / "shop.toml").write_text(f"source = '{tmp_path}'\n[queries]\nsource = 'q.parquet'")
    with pytest.raises(ContractError, match=r"items\.parquet is missing"):
        admit(tmp_path / "shop.toml", tmp_path / "out")


def test_lists_in_json_lines_need_a_rule(tmp_path: Path) -> None:
    line = (
        '{"item_id": 7, "title": "Pot", "description": "", "category": ["Kitchen", "Pots"], "image": "/a.jpg", '
        '"price": {"amount": 1250}, "updated_at": "2025-01-01"}'
    )
    (tmp_path / "items.jsonl").write_text(line)
    plain = Shop.of(tmp_path).table(ITEMS)
    assert plain is not None
    with pytest.raises(ContractError, match="category is a list or an object"):
        admit_table(plain, tmp_path / "out")
    (tmp_path / "map.toml").write_text(
        "[items.columns]\ncategory = { column = 'category', separator = '>' }\n"
        """price = { sql = "(price::JSON->>'amount')::DOUBLE / 100" }"""
    )
    mapped = Shop.of(tmp_path, tmp_path / "map.toml").table(ITEMS)
    assert mapped is not None
    admit_table(mapped, tmp_path / "out")
    [row] = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert (row["item_id"], row["category"], row["price"]) == ("7", "Kitchen/Pots", 12.5)


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())],
)
def test_rules_read_text_of_every_type(kind: pa.DataType) -> None:
    batch = pa.record_batch({"x": pa.array(["1,5", None, ""]).cast(kind)})
    for rule, expected in (
        (ColumnRule(column="x", decimal=","), ["1.5", None, ""]),
        (ColumnRule(column="x", default="none"), ["1,5", "none", "none"]),
        (ColumnRule(column="x", prefix="p/"), ["p/1,5", None, ""]),
        (ColumnRule(column="x", format="%S,%f"), ["1900-01-01 00:00:01.500000Z", None, None]),
    ):
        assert rule.values(batch, "x", "here").to_pylist() == expected


def test_a_number_is_a_default_for_all_that_is_missing() -> None:
    rule = ColumnRule(column="x", default=0)
    for values in (
        pa.array([float("nan"), None, 1.0]),
        pa.array(["N/A", None, "1"]),
        pa.array(["", "null", "1"]),
    ):
        found = rule.values(pa.record_batch({"x": values}), "x", "here")
        assert [float(value) for value in found.to_pylist()] == [0.0, 0.0, 1.0]
    text = ColumnRule(column="x", default="?").values(pa.record_batch({"x": ["NA", "", "nan"]}), "x", "here")
    assert text.to_pylist() == ["NA", "?", "?"]  # a brand may be called NA


def test_a_mapping_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "map.toml").write_text('\ufeff[items.columns]\ntitle = "Titel"\n')
    assert ShopMap.read(tmp_path / "map.toml").items.columns["title"].column == "Titel"


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        ("[items]\ndelimiter = ';;'", "items: the delimiter is ';;': give one ASCII character"),
        ('[items]\ndelimiter = "\\n"', "give one ASCII character"),
        ("[items]\ndelimiter = 'é'", "give one ASCII character"),
        ("[items]\nencoding = 'latin-99'", "there is no encoding 'latin-99'"),
        ("[items]\nencoding = 'base64'", "there is no encoding 'base64'"),
        ("[pictures]\nparallel = 0", r"pictures\.parallel: .*greater than or equal to 1"),
        ("[pictures]\ntries = 0", r"pictures\.tries: .*greater than or equal to 1"),
        ("[pictures]\ntimeout_s = nan", r"pictures\.timeout_s: "),
        ("[pictures]\nmax_mb = -1", r"pictures\.max_mb: .*greater than 0"),
        ("[pictures]\nheaders = { 'A b' = 'c' }", "'A b' is not a header's name"),
        (
            '[pictures]\nheaders = { A = "b\\nc" }',
            "'A' is not a header's name, or its value has a line break",
        ),
        ("[pictures]\nbuckets = 's3://a'", 'pictures.buckets: write a list, such as \\["a", "b"\\]'),
        ("[items.columns]\nprice = 5", "items.columns.price: write a table"),
        ("[items]\nsauce = 'a.csv'", "items.sauce: there is no such key"),
    ],
)
def test_a_value_out_of_range_is_refused_before_a_table_is_read(
    tmp_path: Path, mapping: str, fault: str
) -> None:
    (tmp_path / "map.toml").write_text(mapping)
    with pytest.raises(ContractError, match=fault):
        ShopMap.read(tmp_path / "map.toml")


def test_a_text_that_a_rule_for_numbers_cannot_read_rejects_its_row(tmp_path: Path) -> None:
    """It was taken in as a text that says so."""
    (tmp_path / "attributes.toml").write_text('size = "keyword"\n')
    rules = 'title = { column = "Bezeichnung", decimal = "," }\nsize = { column = "Preis", decimal = "," }\n'
    columns = COLUMNS.replace('title = "Bezeichnung"\n', rules) + 'price = "Cents"\n'
    text = (
        CSV.replace("Kanne;", "4,5;")
        .replace("Tasse;", "5,5;")
        .replace("3\n", "3\n102;groß;groß;5;K;;a.jpg;31.12.2024 10:00;J;1\n")
    )
    found = admitted(tmp_path, columns, text)
    assert [(row["title"], row["attributes"]) for row in found] == [("4.5", '{"size": "1299.00"}')]
    rejected = pq.read_table(tmp_path / "out" / "rejected" / "items.parquet").to_pylist()
    assert {row["reason"] for row in rejected} == {
        "size cannot be read as the mapping says",
        "title cannot be read as the mapping says",
    }
