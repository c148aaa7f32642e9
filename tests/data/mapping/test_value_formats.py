"""How values are written is seen in a sample, and in nothing but the sample."""

import pyarrow as pa
import pytest

from immr.data.contract import ITEMS
from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.proposal import MappingProposal, propose
from immr.data.mapping.shop_map import TableMap
from immr.data.mapping.value_formats import Reading, reading_of


def reading(name: str, values: list[object]) -> Reading:
    batch = pa.RecordBatch.from_pydict({"x": values})
    return reading_of(name, ITEMS.columns.field(name).type, "x", batch)


def proposed(**columns: list[object]) -> MappingProposal:
    batch = pa.RecordBatch.from_pydict(columns)
    return propose(ITEMS, batch.schema.names, batch, TableMap())


@pytest.mark.parametrize(
    ("words", "sold_out"),
    [
        (["in_stock", "out_of_stock", "preorder", "backorder"], "out_of_stock"),  # Google Merchant Center
        (["in stock", "out of stock", ""], "out of stock"),
        (["instock", "outofstock", "onbackorder"], "outofstock"),  # WooCommerce
    ],
)
def test_only_what_cannot_be_ordered_is_sold_out(words: list[object], sold_out: str) -> None:
    rule = reading("stock", words).rule
    read = rule.values(pa.RecordBatch.from_pydict({"x": words}), "stock", "items.csv")
    assert read.to_pylist() == ["0" if word == sold_out else word and "1" for word in words]


@pytest.mark.parametrize(
    ("time", "pattern"),
    [("11/28/25, 10:05 PM", "%m/%d/%y, %I:%M %p"), ("28.11.25, 22:05", "%d.%m.%y, %H:%M")],
)
def test_times_as_magento_writes_them(time: str, pattern: str) -> None:
    found = reading("updated_at", [time])
    assert found.fits and found.rule.format == pattern and "no zone" in found.note


def test_times_of_a_web_server() -> None:
    found = reading("updated_at", ["29/Nov/2025:20:30:45 +0100"])
    assert (found.rule.format, found.note) == ("%d/%b/%Y:%H:%M:%S %z", "")
    read = found.rule.values(
        pa.RecordBatch.from_pydict({"x": ["29/Nov/2025:20:30:45 +0100"]}), "ts", "log.csv"
    )
    assert read[0].as_py().startswith("2025-11-29 19:30:45")


def test_several_currencies_are_mentioned() -> None:
    assert "several currencies (EUR, USD)" in reading("price", ["19.99 EUR", "25 USD", "3 EUR"]).note
    assert reading("price", ["19.99 EUR", "3 EUR", ""]).note == ""


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (["https://x.example/a.jpg?v=1, https://x.example/b.png"], {"separator": ","}),
        (["a.jpg;b.jpg"], {"separator": ";"}),
        (['["a.jpg"]'], {"separator": ","}),
        (["https://x.example/w_3,h_4/a.jpg"], {}),
        (["a.jpg|b.jpg"], {}),
    ],
)
def test_what_is_between_pictures(values: list[object], rule: dict[str, str]) -> None:
    assert reading("images", values).rule == ColumnRule(column="x", **rule)  # type: ignore[arg-type]


def test_html_is_read_as_text() -> None:
    assert reading("description", ["<p>Tea</p>", ""]).rule.html
    assert reading("title", ["Salt &amp; Pepper"]).rule.html
    assert not reading("title", ["a < b & c > d"]).rule.html


def test_a_column_that_is_only_similar_is_left_when_its_values_do_not_fit() -> None:
    """WooCommerce's Parent is a little like updated_at."""
    found = proposed(sku=["a"], Name=["Tea"], Parent=["b"])
    assert found.rules["updated_at"].value is not None
    assert "updated_at: no such column was found" in " ".join(found.notes)


def test_pictures_that_share_a_column() -> None:
    rules = proposed(Pictures=["a.jpg;b.jpg"]).rules
    assert rules["image"] == rules["images"] == ColumnRule(column="Pictures", separator=";")
    rules = proposed(Bild=["a.jpg,b.jpg"]).rules
    assert rules["image"] == rules["images"] == ColumnRule(column="Bild", separator=",")


def test_pictures_in_columns_with_numbers() -> None:
    rules = proposed(**{"Bild 1": ["a"], "Bild 2": ["b"], "bild_10": ["c"], "Bildtext": ["d"]}).rules
    assert rules["image"].column == "Bild 1" and rules["images"].columns == ("Bild 2", "bild_10")
    assert proposed(**{"image": ["a"], "image2": ["b"]}).rules["images"].columns == ("image2",)
    assert proposed(image_url=["a"], image_url_alt=["b"]).rules.get("images") is None


def test_the_regular_price_and_the_shops_own_categories_go_first() -> None:
    prices = {"Sale price": [""], "Regular price": ["20"]}
    categories = {"google_product_category": ["412"], "product_type": ["Home > Milk"]}
    rules = proposed(**prices, **categories).rules
    assert (rules["price"].column, rules["category"].column) == ("Regular price", "product_type")


@pytest.mark.parametrize(
    ("name", "text", "separator"),
    [
        ("image", "https://c.example/1.jpg|https://c.example/2.jpg", "|"),  # eBay
        ("image", "https://c.example/1.jpg https://c.example/2.jpg", " "),  # Squarespace
        ("images", "https://c.example/1.jpg https://c.example/2.jpg", " "),
        ("image", "https://c.example/my photo.jpg", ""),
        ("image", "my.jpg file.png", ""),
    ],
)
def test_pictures_in_one_text(name: str, text: str, separator: str) -> None:
    assert reading(name, [text]).rule.separator == separator


def test_addresses_without_a_scheme_as_in_html() -> None:
    assert reading("image", ["//cdn.example/1.jpg"]).rule.prefix == "https:"
    rule = reading("images", ["//cdn.example/1.jpg, //cdn.example/2.jpg"]).rule
    assert (rule.prefix, rule.separator) == ("https:", ",")
    read = rule.values(
        pa.RecordBatch.from_pydict({"x": ["//cdn.example/1.jpg, //cdn.example/2.jpg"]}), "images", "a"
    )
    assert read.to_pylist() == [["https://cdn.example/1.jpg", "https://cdn.example/2.jpg"]]
    assert reading("image", ["/img//1.jpg"]).rule.prefix == ""


@pytest.mark.parametrize("days", [["45730.5", "45731"], ["45730,5", "45731"], [45730.5, 45731.0]])
def test_days_as_spreadsheets_count_them(days: list[object]) -> None:
    """A date that lost its format was `few values can be read; is it the right column?`."""
    found = reading("updated_at", days)
    assert "is read as days since 1899-12-30" in found.note
    batch = pa.RecordBatch.from_pydict({"x": days})
    times = found.rule.values(batch, "updated_at", "here").cast(pa.timestamp("us", "UTC"))
    assert [str(time) for time in times] == ["2025-03-14 12:00:00+00:00", "2025-03-15 00:00:00+00:00"]
    assert not reading("updated_at", ["12345", "45731"]).fits
