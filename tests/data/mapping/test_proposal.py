"""A mapping is proposed for realistic exports of shop systems, which then meet the contract."""

from __future__ import annotations

import json
import time
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from immr.cli import app
from immr.data.contract import ITEMS
from immr.data.item_changes import read_items
from immr.data.mapping.column_names import similar_columns
from immr.data.mapping.column_rule import ColumnRule
from immr.data.mapping.proposal import MappingProposal, propose
from immr.data.mapping.shop_map import TableMap
from immr.data.sources.shop import Shop
from immr.data.validation.check import check, proposed_mapping
from immr.types import Item

GERMAN = """Artikelnummer;Bezeichnung;Beschreibung;Warengruppe;Bild-URL;VK-Preis;Geändert am;Lagerbestand
4711;Gusseiserner Bräter;"Für Gas,
Herd und Öfen";Küche > Töpfe;https://cdn.example/4711.jpg;1.299,00 €;31.12.2024 10:15;3
0815;Weiße Tasse;;Küche > Tassen;https://cdn.example/0815.jpg;9,90 €;02.01.2025 08:00;0
"""
JAPANESE = """商品コード,商品名,商品説明,カテゴリー,画像URL,販売価格,更新日,在庫数
A-1,鉄のフライパン,丈夫で長持ち,キッチン > 鍋,https://cdn.example/a1.jpg,"￥1,980",2025年1月7日,12
A-2,湯のみ,,キッチン > 食器,https://cdn.example/a2.jpg,880円,2025年1月8日,0
"""
SHOPIFY = """Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Variant Inventory Qty,Variant Price,Image Src
pan,Iron pan,<p>Lasts.</p>,Ours,Home & Garden > Kitchen,Pans,"a, b",10,1980.00,https://cdn.example/pan.jpg
"""


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(GERMAN, "cp1252"), (GERMAN, "utf-8"), (JAPANESE, "cp932"), (JAPANESE, "utf-8"), (SHOPIFY, "utf-8")],
)
def test_an_export_fits_with_the_proposed_mapping(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "export.csv").write_bytes(text.encode(encoding))
    before = check(tmp_path / "export.csv")
    assert not before[0].fits
    (tmp_path / "map.toml").write_text(proposed_mapping(before))
    [after] = check(Shop.of(tmp_path / "export.csv", tmp_path / "map.toml"))
    assert after.fits and after.sampled == text.count("https://"), after


def test_the_command_writes_the_mapping_and_checks_with_it(tmp_path: Path) -> None:
    (tmp_path / "export.csv").write_bytes(GERMAN.encode("cp1252"))
    run = CliRunner().invoke
    refused = run(app, ["data", "check", str(tmp_path / "export.csv")])
    assert (
        refused.exit_code == 3 and "Proposed mapping" in refused.output and 'decimal = ","' in refused.output
    )
    mapping = tmp_path / "map.toml"
    written = run(app, ["data", "check", str(tmp_path / "export.csv"), "--propose", str(mapping), "--json"])
    assert written.exit_code == 0
    assert json.loads(written.stdout)[0]["valid"] == 2
    assert run(app, ["data", "check", str(tmp_path / "export.csv"), "--map", str(mapping)]).exit_code == 0


def test_impressions_of_another_system(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(GERMAN)
    (tmp_path / "queries.csv").write_text("Such-ID,Nutzer,Zeit,Bild\n1,u,1735689600000,a.jpg\n")
    (tmp_path / "impressions.csv").write_text(
        "Such-ID,Artikelnummer,Rang,geklickt,gekauft,Zeitstempel\n1,4711,1,ja,nein,1735689600\n1,0815,2,nein,nein,1735689601\n"
    )
    (tmp_path / "map.toml").write_text(proposed_mapping(check(tmp_path)))
    assert all(report.fits for report in check(Shop.of(tmp_path, tmp_path / "map.toml")))


def test_a_click_log_with_gaps(tmp_path: Path) -> None:
    """Some values are missing; a brand is not taken for additional pictures, although names are alike."""
    (tmp_path / "klicks.csv").write_text(
        "Anfrage;Artikelnummer;Rang;geklickt;gekauft;Zeit\n"
        "q1;4711;1;ja;nein;2026-11-01 10:00:00\nq1;0815;2;nein;nein;2026-11-01 10:00:00\n"
        ";4711;3;;nein;2026-11-01 10:00:00\n"
    )
    [impressions] = check(Shop.of(tmp_path, None))[2:]
    assert impressions.proposal is not None
    rules = impressions.proposal.rules
    assert (rules["clicked"].true, rules["clicked"].false) == (("ja",), ("nein",))
    assert rules["query_id"].column == "Anfrage"
    names = ["image", "images", "stock"]
    assert similar_columns(names, ["Bild", "Marke", "Stoff"], optional=["images", "stock"]) == {
        "image": "Bild"
    }
    assert similar_columns(names, ["Bild", "Bilder"], optional=["images", "stock"])["images"] == "Bilder"


def test_a_stock_of_words_is_proposed_and_read_as_a_number(tmp_path: Path) -> None:
    head, *rows = GERMAN.replace("Geändert am;Lagerbestand", "Zuletzt geändert;auf Lager").split("\n", 1)
    text = f"{head}\n{rows[0]}".replace("10:15;3", "10:15;ja").replace("08:00;0", "08:00;nein")
    (tmp_path / "export.csv").write_text(text)
    (tmp_path / "map.toml").write_text(proposed_mapping(check(tmp_path / "export.csv")))
    mapped = Shop.of(tmp_path / "export.csv", tmp_path / "map.toml")
    assert mapped.mapping.table("items").columns["stock"].true == ("ja",)
    assert mapped.mapping.table("items").columns["updated_at"].column == "Zuletzt geändert"
    [report] = check(mapped)
    assert report.fits
    read = read_items(tmp_path / "export.csv", tmp_path / "map.toml").items
    assert [item.stock for item in read] == [1.0, 0.0]


def test_a_session_is_a_user_and_never_a_model_version(tmp_path: Path) -> None:
    """A column whose name is only similar is named, because its values cannot show that it is wrong."""
    (tmp_path / "searches.csv").write_text("search;session;ts;photo\ns1;a;2026-11-01 10:00:00;a.jpg\n")
    (tmp_path / "log.csv").write_text(
        "ts;session;search;sku;pos;click;orders\n2026-11-01 10:00:00;a;s1;4711;0;1;0\n"
    )
    queries, impressions = check(Shop.of(tmp_path, None))[1:]
    assert queries.proposal and impressions.proposal
    assert [queries.proposal.rules[name].column for name in ("query_id", "user_id")] == ["search", "session"]
    assert impressions.proposal.rules["model_version"].value == "before IMMR"
    assert impressions.proposal.rules["ordered"].column == "orders"
    assert any("'orders' is similar" in note for note in impressions.proposal.notes)


@pytest.mark.parametrize("named", ["search_id", "Request ID", "id", "Such-ID", "Anfragenummer"])
@pytest.mark.parametrize("words", ["query", "search", "Suche", "Anfrage"])
def test_words_of_a_search_are_no_id_of_it(tmp_path: Path, named: str, words: str) -> None:
    (tmp_path / "queries.csv").write_text(
        f"{words},{named},customer,customer_id,time,photo\nred shoe,1,Ann Lee,7,2026-11-01 10:00:00,a.jpg\n"
    )
    proposal = check(Shop.of(tmp_path))[1].proposal
    assert proposal
    columns = {name: rule.column for name, rule in proposal.rules.items()}
    assert (columns["query_id"], columns["user_id"]) == (named, "customer_id")


def test_searches_with_the_users_of_google_analytics_and_photos_in_s3() -> None:
    there = ["search_id", "user_pseudo_id", "time", "s3_key"]
    assert similar_columns(["query_id", "user_id", "ts", "image"], there) == {
        "query_id": "search_id",
        "user_id": "user_pseudo_id",
        "ts": "time",
        "image": "s3_key",
    }


def test_the_id_of_a_row_is_no_id_of_its_search() -> None:
    there = ["id", "search_id", "product_id"]
    assert similar_columns(["query_id"], there) == {"query_id": "search_id"}
    assert similar_columns(["query_id"], ["id", "query"]) == {"query_id": "id"}


@pytest.mark.parametrize(
    ("prices", "decimal", "noted"),
    [
        (("$1,299", "$12"), ".", True),
        (("1.299 €", "12 €"), ",", True),
        (("1.299,00 €", "12 €"), ",", False),
        (("$1,299.00", "$12"), ".", False),
    ],
)
def test_a_thousand_is_not_taken_for_a_fraction(
    tmp_path: Path, prices: tuple[str, str], decimal: str, noted: bool
) -> None:
    (tmp_path / "items.csv").write_text("sku;name;photo;price\n" + "".join(f"1;a;b;{p}\n" for p in prices))
    proposal = check(tmp_path / "items.csv")[0].proposal
    assert proposal and proposal.rules["price"].decimal == decimal
    assert any("thousands" in note for note in proposal.notes) == noted


def test_a_column_is_used_once_and_an_equal_name_wins() -> None:
    assert similar_columns(["item_id", "title"], ["ID", "item-id", "Name"]) == {
        "item_id": "item-id",
        "title": "Name",
    }
    assert similar_columns(["title"], ["qqq"]) == {}


@pytest.mark.parametrize(
    ("name", "line"), [("items.csv", "1,Käse,a.jpg,2"), ("items.jsonl", '{"sku": 1, "name": "Käse"}')]
)
def test_a_proposed_encoding_shows_words_to_judge_it_by(tmp_path: Path, name: str, line: str) -> None:
    text = line if name == "items.jsonl" else f"sku,name,photo,price\n{line}\n"
    (tmp_path / name).write_bytes(text.encode("cp1252"))
    proposal = check(tmp_path / name)[0].proposal
    assert proposal and proposal.encoding == "cp1252"
    assert "encoding: as cp1252, it has words such as Käse; if they look wrong" in proposal.notes[0]


def test_a_proposal_keeps_what_the_mapping_already_has(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "artikel.csv").write_bytes(GERMAN.encode("cp1252"))
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(
        f'source = "{tmp_path}/in"\n[items]\nsource = "artikel.csv"\n[pictures]\nbase = "https://cdn.example/"\n'
    )
    (tmp_path / "in" / "queries.csv").write_text("query_id,user_id,ts,image\n1,u,2025-01-01,a.jpg\n")
    (tmp_path / "in" / "impressions.csv").write_text(
        "query_id,item_id,position,clicked,ordered,variant,model_version,ts\n1,4711,1,1,0,a,b,2025-01-01\n"
    )
    done = CliRunner().invoke(app, ["data", "check", str(first), "--propose", str(second)])
    assert done.exit_code == 0, done.output
    assert Shop.of(second).mapping.pictures.base == "https://cdn.example/"
    assert all(report.fits for report in check(second))


def test_nothing_is_written_where_nothing_can_be_proposed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "lager.csv").write_text("Platz;Regal\n1;2\n")
    done = CliRunner().invoke(
        app, ["data", "check", str(tmp_path / "in"), "--propose", str(tmp_path / "map.toml")]
    )
    assert done.exit_code == 3 and "nothing to propose" in done.output
    assert not (tmp_path / "map.toml").exists()


@pytest.mark.parametrize("number", [0.123456789, 12345678.0, 1e-7, 1e300, -7.0])
def test_numbers_of_a_mapping_are_kept_exactly(number: float) -> None:
    rule = ColumnRule(column="VK-Preis", default=number, times=number)
    written = tomllib.loads(MappingProposal({"price": rule}).to_toml("items"))["items"]["columns"]["price"]
    assert written == {"column": "VK-Preis", "default": number, "times": number}


def test_a_department_is_a_category_and_a_photo_file_a_picture(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text(
        "sku,name,text,department,photo_file,price,last_change\n"
        "A1,Milk,Fresh,Dairy > Milk,a.jpg,$2.94,12/04/2025 12:00 AM\n"
        "A2,Pear,Ripe,Fruit > Pear,b.jpg,$1.20,12/05/2025 01:30 PM\n"
    )
    proposed = proposed_mapping(check(tmp_path / "products.csv"))
    assert 'category = { column = "department", separator = ">" }' in proposed
    assert 'image = "photo_file"' in proposed


@pytest.mark.parametrize(("pictures", "proposed"), [("", False), ("/img/1.jpg|/img/2.jpg", True)])
def test_only_a_column_that_has_pictures_is_proposed_for_them(
    tmp_path: Path, pictures: str, proposed: bool
) -> None:
    (tmp_path / "items.csv").write_text(
        f"item_id,title,category,price,updated_at,images\n1,Tea,Drinks,2.5,2025-06-01,{pictures}\n"
    )
    proposal = check(tmp_path)[0].proposal
    assert proposal is not None and ("image" in proposal.rules) is proposed
    assert ("image: no such column was found; name one" in proposal.notes) is not proposed


@pytest.mark.parametrize("zone", ["EAST-14", "WEST+12"])
def test_a_catalogue_without_times_gets_todays_date_in_utc(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        rule = propose(ITEMS, ["item_id"], None, TableMap()).rules["updated_at"]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert str(rule.value) == f"{datetime.now(UTC):%Y-%m-%d}T00:00:00+00:00"


def test_a_catalogue_without_prices_gets_a_way_out(tmp_path: Path) -> None:
    """`name one` was all that a catalogue of ids, titles and pictures heard about its prices."""
    file = tmp_path / "products.csv"
    file.write_text("id,title,image\nS1,Bowl,images/1.jpg\n")
    proposed = proposed_mapping(check(file), Shop.of(file))
    note = "# price: no such column was found; name one, or add price = { value = 0 } below if there are no prices"
    assert note in proposed
    (tmp_path / "map.toml").write_text(f"{proposed}price = {{ value = 0 }}\n")
    [items] = check(Shop.of(file, tmp_path / "map.toml"))
    assert items.fits


NESTED = (
    '{"sku": "A1", "name": {"de-DE": "Apfel", "en": "Apple"}, "description": "", "date_modified": "14. März 2025", '
    '"categories": [{"id": 1, "name": "Obst"}, {"id": 2, "name": "Äpfel"}], "images": [{"src": "a.jpg"}], '
    '"price": "1.299,00 €", "stock_quantity": 3}'
)


def read_with_proposal(shop: Path) -> Item:
    mapping = shop.parent / "map.toml"
    mapping.write_text(proposed_mapping(check(shop)))
    [item] = read_items(shop, mapping).items
    return item


def test_an_export_with_objects_and_months_by_name(tmp_path: Path) -> None:
    (tmp_path / "products.jsonl").write_text(NESTED + "\n")
    item = read_with_proposal(tmp_path / "products.jsonl")
    assert (item.title, item.category, item.price, item.stock) == ("Apfel", "Obst/Äpfel", 1299.0, 3.0)
    assert item.updated_at == datetime(2025, 3, 14, tzinfo=UTC) and item.image.endswith("/a.jpg")


def test_an_object_is_not_read_as_a_title(tmp_path: Path) -> None:
    (tmp_path / "products.jsonl").write_text(NESTED + "\n")
    (tmp_path / "map.toml").write_text('[items.columns]\nitem_id = "sku"\ntitle = "name"\n')
    [report] = check(Shop.of(tmp_path / "products.jsonl", tmp_path / "map.toml"))
    assert "name is a list or an object" in report.error


def test_names_behind_a_word_for_the_item_and_lists(tmp_path: Path) -> None:
    table = pa.table(
        {
            "product_id": [7],
            "product_title": ["Apple"],
            "long_text": ["Red"],
            "taxonomy": [["Fruit", "Apples"]],
            "list_price": [Decimal("3.10")],
            "last_modified": [datetime(2025, 3, 14, tzinfo=UTC)],
            "qty_on_hand": [2],
            "image_urls": [["https://cdn.example/a.jpg", "https://cdn.example/b.jpg"]],
        }
    )
    pq.write_table(table, tmp_path / "catalogue.parquet")
    item = read_with_proposal(tmp_path / "catalogue.parquet")
    assert (item.item_id, item.title, item.description, item.category) == (
        "7",
        "Apple",
        "Red",
        "Fruit/Apples",
    )
    assert (item.price, item.stock, item.image) == (3.1, 2.0, "https://cdn.example/a.jpg")
    assert item.images == ("https://cdn.example/b.jpg",)


def test_variants_in_rows_become_one_item(tmp_path: Path) -> None:
    (tmp_path / "export.csv").write_text(
        "sku,name,text,category,image,price,updated\n"
        "a,Tee,Soft,Shirts,a.jpg,9,2025-03-14\na,,,,,8,\nb,Cap,,Hats,b.jpg,7,2025-03-14\n"
    )
    before = check(tmp_path / "export.csv")
    (tmp_path / "map.toml").write_text(proposed_mapping(before))
    [after] = check(Shop.of(tmp_path / "export.csv", tmp_path / "map.toml"))
    assert after.fits and after.sampled == 2
    items = read_items(tmp_path / "export.csv", tmp_path / "map.toml").items
    assert {item.item_id: (item.title, item.price) for item in items} == {
        "a": ("Tee", 9.0),
        "b": ("Cap", 7.0),
    }


def test_an_id_without_gaps_is_preferred(tmp_path: Path) -> None:
    header = "id,sku,name,description,category,image,price,updated\n"
    rows = [
        f"{number},{sku},Tee,,Shirts,a.jpg,9,2025-03-14\n" for number, sku in enumerate(["a", "", "c"], 1)
    ]
    (tmp_path / "export.csv").write_text(header + "".join(rows))
    assert 'item_id = "id"' in proposed_mapping(check(tmp_path / "export.csv"))
    (tmp_path / "export.csv").write_text(header + rows[0] + rows[2])
    assert 'item_id = "sku"' in proposed_mapping(check(tmp_path / "export.csv"))


@pytest.mark.parametrize("column", ["item_id", "stock", "category"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([["a"]]),
        pa.array([2**60], pa.date64()),
        pa.array([2**62], pa.timestamp("us")),
        pa.array([1], pa.timestamp("us", "Mars/Phobos")),
        pa.array([Decimal("1." + "1" * 40)], pa.decimal256(60, 40)),
        pa.array([b"\xed\xa0\x80"]).cast(pa.string(), safe=False),
    ],
)
def test_any_type_in_any_column_is_checked(tmp_path: Path, column: str, values: pa.Array) -> None:
    names = [*ITEMS.needed, "stock", "images"]
    table = pa.table({name: values if name == column else pa.array(["1"]) for name in names})
    pq.write_table(table, tmp_path / "items.parquet")
    (tmp_path / "map.toml").write_text(proposed_mapping(check(tmp_path / "items.parquet")))
    assert check(Shop.of(tmp_path / "items.parquet", tmp_path / "map.toml"))


def test_a_column_without_values_and_a_name_that_is_hardly_similar_are_not_taken(tmp_path: Path) -> None:
    """An empty "series" became the price of a museum's catalogue, and "Position" the description of a shop's."""
    (tmp_path / "export.csv").write_text(
        "id,name,series,Unit price,Position,department,image_web,updated_at,Current Stock Level,"
        "Product Availability\n"
        "1,Bowl,,,5,Prints,a.jpg,2025-03-07,4,\n"
    )
    proposal = check(tmp_path / "export.csv")[0].proposal
    assert proposal is not None and "price" not in proposal.rules
    assert "price: no such column was found; name one, or" in "".join(proposal.notes)
    assert proposal.rules["description"].value == "" and proposal.rules["image"].column == "image_web"
    assert proposal.rules["stock"].column == "Current Stock Level"


def test_a_column_of_the_contract_without_values_gets_a_default(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("sku,title,category,image,price,updated_at\n1,Bowl,,a.jpg,2,\n")
    (tmp_path / "map.toml").write_text(proposed_mapping(check(tmp_path / "items.csv")))
    [item] = read_items(tmp_path / "items.csv", tmp_path / "map.toml").items
    assert item.category == "All" and item.updated_at.year >= 2025


def test_prices_with_tax_go_before_those_without(tmp_path: Path) -> None:
    (tmp_path / "export.csv").write_text(
        "Product ID,Image,Name,Categories (x,Price (tax excl.),Price (tax incl.)\n7,a.jpg,Bowl,Home,1.00,1.19\n"
    )
    proposal = check(tmp_path / "export.csv")[0].proposal
    assert proposal is not None and proposal.rules["price"].column == "Price (tax incl.)"
