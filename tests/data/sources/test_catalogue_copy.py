"""A copy of a catalogue says the same from another folder."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.contract import ITEMS
from immr.data.sources.catalogue_copy import CatalogueCopy
from immr.data.sources.shop import Shop
from immr.data.validation.tables import admit_table
from immr.errors import ContractError

ARTICLES = """\
sku,title,description,category,image,price,updated_at,images,brand
item-1,Tea,,Drinks,pictures/1.jpg,2.50,2024-05-01T12:00:00Z,pictures/1b.jpg|https://cdn.example/1c.jpg,Größe
item-2,Tea,,Drinks,/elsewhere/2.jpg,sold out,2024-05-01T12:00:00Z,,
item-3,Tea,,Drinks,https://cdn.example/3.jpg,3,2024-05-01T12:00:00Z,,Acme
"""


def test_a_csv_with_its_own_columns_attributes_and_pictures_beside_it(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "articles.csv").write_text(ARTICLES)
    (shop / "attributes.toml").write_text('brand = "keyword"\n')
    (tmp_path / "shop.toml").write_text('[items.columns]\nitem_id = "sku"\n')
    copy = tmp_path / "copy"
    copy.mkdir()
    CatalogueCopy.of(Shop.catalogue(shop / "articles.csv", tmp_path / "shop.toml")).write(copy)
    table = Shop.of(copy).table(ITEMS)
    assert table is not None
    assert admit_table(table, tmp_path / "admitted").rejected == {"price is not a number": 1}
    first, last = pq.read_table(tmp_path / "admitted" / "items.parquet").to_pylist()
    assert (first["image"], first["price"]) == (f"{shop}/pictures/1.jpg", 2.5)
    assert json.loads(first["images"]) == [f"{shop}/pictures/1b.jpg", "https://cdn.example/1c.jpg"]
    assert last["image"] == "https://cdn.example/3.jpg"
    brands = [json.loads(row["attributes"]) for row in (first, last)]
    assert brands == [{"brand": "Größe"}, {"brand": "Acme"}]


def test_files_that_differ_in_a_type_are_refused(tmp_path: Path) -> None:
    row = {"item_id": "a", "title": "Tea", "description": "", "category": "Drinks", "image": "/a.jpg"}
    for number, price in enumerate((2.5, "2.50")):
        rows = [{**row, "price": price, "updated_at": "2024-05-01T12:00:00Z"}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"items-{number}.parquet")
    with pytest.raises(ContractError, match="differ in the type of a column"):
        CatalogueCopy.of(Shop.catalogue(tmp_path))
