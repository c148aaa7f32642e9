"""Exports of shop systems, as these write them: the proposed mapping gives the items that the export means."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from immr.data.item_changes import read_items
from immr.data.mapping.known_systems import KNOWN_SYSTEMS, known_system
from immr.data.sources.files import FilePart
from immr.data.sources.locations import Location
from immr.data.sources.shop import Shop
from immr.data.sources.sql_tables import QueriedPart
from immr.data.sources.table_parts import CHUNK_ROWS
from immr.data.validation.check import check, proposed_mapping
from immr.types import Item

DOCS = Path(__file__).parents[3] / "docs" / "mapping.md"
SHOPIFY = """Handle,Title,Body (HTML),Vendor,Product Category,Type,Published,Option1 Name,Option1 Value,Variant SKU,Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy,Variant Price,Image Src,Image Position,Variant Image,Status
apple,Red Apple,"<p>Crisp &amp; sweet.</p>
<ul><li>Organic</li></ul>",Farm,"Food, Drinks > Fruit",Fruit,true,Size,1 kg,AP-1,shopify,12,deny,2.99,https://cdn.example/b.jpg?v=17,2,,active
apple,,,,,,,,2 kg,AP-2,shopify,-3,deny,1.49,https://cdn.example/a.jpg?v=16,1,,
apple,,,,,,,,,,,,,,https://cdn.example/c.jpg?v=18,3,,
milk,Milk,,Dairy,,Drinks,true,Title,Default Title,MI-1,shopify,-3,deny,1.19,https://cdn.example/m.jpg,1,,active
juice,Juice,,,,,true,Title,Default Title,JU-1,,0,deny,3,https://cdn.example/j.jpg,1,,active
soda,Soda,,,,,true,Title,Default Title,SO-1,shopify,0,continue,3,https://cdn.example/s.jpg,1,,active
secret,Secret,,,,,true,Title,Default Title,SE-1,shopify,1,deny,9,https://cdn.example/x.jpg,1,,draft
till,At the till,,,,,false,Title,Default Title,TI-1,shopify,1,deny,9,https://cdn.example/x.jpg,1,,active
till,,,,,,,,Large,TI-2,shopify,1,deny,9,https://cdn.example/x.jpg,1,,
"""  # noqa: E501
WOO = r"""ID,Type,SKU,Name,Published,"Short description",Description,"In stock?",Stock,"Sale price","Regular price",Categories,Images,Parent,Brands
44,variable,tee,"V-Neck T-Shirt",1,,"A <strong>T-shirt</strong>.\nSoft",1,,,,"Sale, Clothing > Shirts, Clothing","https://x.example/1.jpg, https://x.example/w_3,h_4/2.jpg",,Ours
45,simple,hoodie,Hoodie,1,Warm,,1,5,"42,5","45",Clothing,https://x.example/4.jpg,,
46,"simple, virtual",,Card,1,,,0,,,20,"Food\, Drinks &amp; more",https://x.example/5.jpg,,
50,variable,,Cap,1,,,1,,,,Clothing,https://x.example/6.jpg,,
73,variation,,"Cap - Red",1,,,1,,,7,,https://x.example/7.jpg,id:50,
48,simple,draft,Draft,-1,,,1,,,18,Clothing,https://x.example/8.jpg,,
70,variation,tee-blue,"T-Shirt - Blue",1,,,1,3,,20,,https://x.example/blue.jpg,tee,
71,variation,tee-green,"T-Shirt - Green",1,,,1,,15,20,,,tee,
72,variation,tee-old,"T-Shirt - Old",0,,,1,,1,20,,https://x.example/old.jpg,tee,
"""  # noqa: E501
MAGENTO = """sku,store_view_code,attribute_set_code,product_type,categories,name,description,short_description,product_online,visibility,price,special_price,base_image,updated_at,additional_attributes,qty,is_in_stock,additional_images,configurable_variations
24-MB01,,Bag,simple,"Default Category/Gear,Default Category/Gear/Bags",Duffle Bag,<p>Sporty</p>,,1,"Catalog, Search",34.000000,,/m/b/mb01.jpg,"11/28/25, 10:05 PM","activity=Gym|Hiking,color=Black",100.0000,1,"/m/b/mb01.jpg,/m/b/mb01_alt.jpg",
24-MB01,de,,,,Reisetasche,,,,,,,,,,,,,
24-MB04,,Bag,simple,Default Category/Gear,Pack,,Short,1,"Catalog, Search",32.000000,28,/m/b/mb04.jpg,"11/28/25, 10:05 AM",,0.0000,0,/m/b/mb04.jpg,
WH09-XS,,Top,simple,Default Category/Women/Tops,Hoodie XS,,,1,Not Visible Individually,57.000000,,/w/h/xs.jpg,"11/28/25, 10:05 AM","color=Green,size=XS",5,1,/w/h/xs.jpg,
WH09,,Top,configurable,Default Category/Women/Tops,Hoodie,,,1,"Catalog, Search",0.000000,,/w/h/wh09.jpg,"11/28/25, 10:05 AM",,0.0000,1,/w/h/wh09.jpg,"sku=WH09-XS,size=XS,color=Green|sku=WH09-S,size=S,color=Red"
OFF,,Top,simple,Default Category/Women/Tops,Off,,,2,"Catalog, Search",5,,/o.jpg,"11/28/25, 10:05 AM",,1,1,,
"""  # noqa: E501
SHOPIFY_TEMPLATE = """Title,URL handle,Description,Vendor,Product category,Type,Published on online store,Status,SKU,Option1 name,Option1 value,Price,Inventory tracker,Inventory quantity,Continue selling when out of stock,Product image URL,Image position,Variant image URL
Red Apple,apple,"<p>Crisp &amp; sweet.</p>
<ul><li>Organic</li></ul>",Farm,"Food, Drinks > Fruit",Fruit,TRUE,Active,AP-1,Size,1 kg,2.99,shopify,12,DENY,https://cdn.example/b.jpg?v=17,2,
,apple,,,,,,,AP-2,,2 kg,1.49,shopify,-3,DENY,https://cdn.example/a.jpg?v=16,1,
,apple,,,,,,,,,,,,,,https://cdn.example/c.jpg?v=18,3,
Milk,milk,,Dairy,,Drinks,TRUE,Active,MI-1,Title,Default Title,1.19,shopify,-3,DENY,https://cdn.example/m.jpg,1,
Juice,juice,,,,,TRUE,Active,JU-1,Title,Default Title,3,,0,DENY,https://cdn.example/j.jpg,1,
Soda,soda,,,,,TRUE,Active,SO-1,Title,Default Title,3,shopify,0,CONTINUE,https://cdn.example/s.jpg,1,
Secret,secret,,,,,TRUE,Draft,SE-1,Title,Default Title,9,shopify,1,DENY,https://cdn.example/x.jpg,1,
At the till,till,,,,,FALSE,Active,TI-1,Title,Default Title,9,shopify,1,DENY,https://cdn.example/x.jpg,1,
"""  # noqa: E501
WIX = """handleId,fieldType,name,description,productImageUrl,collection,sku,price,visible,inventory,brand
shoe,Product,Schuh,<p>Schön</p>,a~mv2.jpg;b~mv2.jpg,Schuhe;Sale,S1,12.5,true,InStock,Acme
shoe,Variant,,,,,S1-40,,true,3,
shoe,Variant,,,,,S1-41,,true,OutOfStock,
cap,Product,Mütze,,https://x.example/c.jpg,,S2,5,true,InStock,
old,Product,Alt,,d~mv2.jpg,Sale,S3,5,true,OutOfStock,
bag,Product,Tasche,,e~mv2.jpg,Sale,S4,5,true,InStock,
bag,Variant,,,,,S4-1,,true,,
few,Product,Rest,,f~mv2.jpg,Sale,S5,5,true,7,
hidden,Product,Entwurf,,g~mv2.jpg,Sale,S6,5,false,InStock,
"""
EXPORTS = {
    "Wix": WIX,
    "Shopify": SHOPIFY,
    "Shopify by Matrixify": SHOPIFY.replace("Body (HTML)", "Body HTML").replace(
        "Product Category", "Category: Name"
    ),
    "Shopify, newer columns": SHOPIFY_TEMPLATE,
    "WooCommerce": WOO,
    "Magento": MAGENTO,
}


def items_of(folder: Path, export: str) -> dict[str, Item]:
    """With the mapping that is proposed for a folder in which the export has its own name."""
    (folder / "shop").mkdir()
    (folder / "shop" / "products_export_1.csv").write_text(export)
    (folder / "map.toml").write_text(proposed_mapping(check(folder / "shop")))
    items, *_ = check(Shop.of(folder / "shop", folder / "map.toml"))
    assert items.fits, items
    read = read_items(folder / "shop" / "products_export_1.csv", folder / "map.toml")
    return {item.item_id: item for item in read.items}


@pytest.mark.parametrize("export", [SHOPIFY, SHOPIFY_TEMPLATE], ids=["older columns", "newer columns"])
def test_shopify(tmp_path: Path, export: str) -> None:
    found = items_of(tmp_path, export)
    apple = found["apple"]
    assert (apple.title, apple.description) == ("Red Apple", "Crisp & sweet. Organic")
    assert apple.pictures == tuple(
        f"https://cdn.example/{name}" for name in ("a.jpg?v=16", "b.jpg?v=17", "c.jpg?v=18")
    )
    categories = {name: item.category for name, item in found.items()}
    assert categories == {"apple": "Food, Drinks/Fruit", "juice": "All", "milk": "Drinks", "soda": "All"}
    assert [found[name].price for name in categories] == [1.49, 3.0, 1.19, 3.0]
    # not counted, oversold, and sold beyond the stock
    assert [found[name].stock for name in categories] == [12.0, None, 0.0, None]


@pytest.mark.parametrize("price", ["abc", "N/A", '"1,299.00"', "-1"])
def test_a_variant_whose_price_cannot_be_read_leaves_the_price_to_the_others(
    tmp_path: Path, price: str
) -> None:
    """A negative one once made the whole item rejected."""
    found = items_of(tmp_path, SHOPIFY.replace("deny,1.49,", f"deny,{price},"))
    assert found["apple"].price == 2.99


@pytest.mark.parametrize(
    ("export", "item_id", "price", "reason"),
    [
        (SHOPIFY, "milk", ("deny,1.19,", "deny,abc,"), "price is not a number"),
        (SHOPIFY, "milk", ("deny,1.19,", "deny,-1,"), "price is negative"),
        (SHOPIFY, "milk", ("deny,1.19,", "deny,,"), "price is missing"),
        (WOO, "45", ('"42,5","45"', "abc,45"), "price is not a number"),
        (WOO, "50", (",,7,,", ",,abc,,"), "price is not a number"),
        (MAGENTO, "24-MB01", (",34.000000,", ",abc,"), "price is not a number"),
    ],
)
def test_an_item_without_a_readable_price_is_rejected_for_that(
    tmp_path: Path, export: str, item_id: str, price: tuple[str, str], reason: str
) -> None:
    """The reason was always that its price is missing."""
    (tmp_path / "export.csv").write_text(export.replace(*price))
    (tmp_path / "map.toml").write_text(proposed_mapping(check(tmp_path / "export.csv")))
    counts = read_items(tmp_path / "export.csv", tmp_path / "map.toml").counts
    assert (counts.rejected, counts.examples) == ({reason: 1}, {reason: [item_id]})


def test_a_shopify_shop_with_several_locations_has_an_unknown_stock(tmp_path: Path) -> None:
    """Its export has no quantities, so nothing is sold out."""
    rows = csv.DictReader(io.StringIO(SHOPIFY))
    kept = [name for name in rows.fieldnames or () if name != "Variant Inventory Qty"]
    text = io.StringIO()
    writer = csv.DictWriter(text, kept, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    assert {item.stock for item in items_of(tmp_path, text.getvalue()).values()} == {None}


def test_wix(tmp_path: Path) -> None:
    found = items_of(tmp_path, WIX)
    media = "https://static.wixstatic.com/media"
    assert found["shoe"].pictures == (f"{media}/a~mv2.jpg", f"{media}/b~mv2.jpg")
    assert (found["shoe"].title, found["shoe"].description, found["shoe"].price) == ("Schuh", "Schön", 12.5)
    assert found["cap"].pictures == ("https://x.example/c.jpg",)
    seen = {name: (item.category, item.stock) for name, item in found.items()}
    assert seen == {
        "shoe": ("Schuhe", 3.0),
        "cap": ("All", None),
        "old": ("Sale", 0.0),
        "bag": ("Sale", None),
        "few": ("Sale", 7.0),
    }


def test_matrixify_may_know_when_a_product_was_updated(tmp_path: Path) -> None:
    export = EXPORTS["Shopify by Matrixify"]
    for folder, column in (("with", "Updated At"), ("without", "Unknown")):
        (tmp_path / folder).mkdir()
        header, *rows = csv.reader(io.StringIO(export))
        text = io.StringIO()
        csv.writer(text).writerows(
            [[*header, column], *([*row, "2025-03-07 13:01:09 -0500"] for row in rows)]
        )
        found = items_of(tmp_path / folder, text.getvalue())["apple"].updated_at
        assert (found == datetime(2025, 3, 7, 18, 1, 9, tzinfo=UTC)) is (folder == "with")


def test_woocommerce(tmp_path: Path) -> None:
    found = items_of(tmp_path, WOO)
    shirt = found["44"]
    assert (shirt.title, shirt.description) == ("V-Neck T-Shirt", "A T-shirt . Soft")
    assert shirt.pictures == tuple(
        f"https://x.example/{name}" for name in ("1.jpg", "w_3,h_4/2.jpg", "blue.jpg")
    )
    seen = {name: (item.category, item.price, item.stock) for name, item in found.items()}
    assert seen == {
        "44": ("Clothing/Shirts", 15.0, 1.0),
        "45": ("Clothing", 42.5, 5.0),
        "46": ("Food, Drinks & more", 20.0, 0.0),
        "50": ("Clothing", 7.0, 1.0),  # without a SKU, so that its variation names its ID
    }
    assert found["50"].images == ("https://x.example/7.jpg",)
    assert found["45"].description == "Warm"


def test_attributes_of_magento_are_columns_by_an_expression(tmp_path: Path) -> None:
    """The example of the docs."""
    [rule] = [line for line in DOCS.read_text().splitlines() if line.startswith("colour = {")]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "attributes.toml").write_text('colour = "keyword"\n')
    (tmp_path / "shop" / "items.csv").write_text(MAGENTO)
    mapping = proposed_mapping(check(tmp_path / "shop" / "items.csv"))
    (tmp_path / "map.toml").write_text(f"{mapping}{rule}\n")
    items = read_items(tmp_path / "shop" / "items.csv", tmp_path / "map.toml").items
    assert {item.item_id: dict(item.attributes) for item in items} == {
        "24-MB01": {"colour": "Black"},
        "24-MB04": {},
        "WH09": {},
    }


def test_magento(tmp_path: Path) -> None:
    found = items_of(tmp_path, MAGENTO)
    bag = found["24-MB01"]
    assert (bag.title, bag.description, bag.updated_at.isoformat()) == (
        "Duffle Bag",
        "Sporty",
        "2025-11-28T22:05:00+00:00",
    )
    # relative, so that `base` under [pictures] is put before them
    assert bag.pictures == tuple(f"{tmp_path}/shop/m/b/{name}" for name in ("mb01.jpg", "mb01_alt.jpg"))
    seen = {name: (item.category, item.price, item.stock) for name, item in found.items()}
    assert seen == {
        "24-MB01": ("Gear/Bags", 34.0, 100.0),
        "24-MB04": ("Gear", 32.0, 0.0),
        "WH09": ("Women/Tops", 57.0, 1.0),
    }
    assert found["24-MB04"].description == "Short" and found["WH09"].images == ()


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_may_lack_any_column_that_is_not_of_the_signature(tmp_path: Path, name: str) -> None:
    header, *rows = csv.reader(io.StringIO(EXPORTS[name]))
    system = known_system(header)
    assert system is not None and name.startswith(system.name)
    for left_out in [name for name in header if name not in system.signature] + [""]:
        there = [column for column in header if column != left_out] if left_out else [*system.signature]
        result = QueriedPart([part(tmp_path, header, rows, there)], system.sql(there), "items")
        assert sum(len(batch) for batch in result.batches(CHUNK_ROWS)) >= 0
        assert {"item_id", "title", "price", "image", "images"} <= set(result.columns())


def part(
    folder: Path, header: Sequence[str], rows: Sequence[Sequence[str]], there: Sequence[str]
) -> FilePart:
    with (folder / "some.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, there, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(dict(zip(header, row, strict=True)) for row in rows)
    return FilePart(Location.of(folder / "some.csv"))


def test_other_tables_are_of_no_system() -> None:
    assert known_system(["Handle", "Title", "Variant Price"]) is None
    assert len(KNOWN_SYSTEMS) == len(EXPORTS)
