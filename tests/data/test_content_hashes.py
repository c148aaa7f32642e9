"""The hash that decides whether data have been governed before."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from immr.data.content_hashes import content_hash, listing_hash
from immr.data.contract import IMPRESSIONS, ITEMS, QUERIES
from immr.data.sources.locations import Location
from immr.data.sources.shop import Shop
from immr.errors import ContractError


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for contract in (ITEMS, QUERIES, IMPRESSIONS):
        row = dict.fromkeys(contract.columns.names) | {"image": "photo.jpg"}
        rows = [{name: row[name] for name in contract.columns.names}] * 4
        pq.write_table(pa.Table.from_pylist(rows, contract.columns), tmp_path / f"{contract.name}.parquet")
    (tmp_path / "photo.jpg").write_bytes(b"a photo")
    return tmp_path


def test_it_depends_on_the_content_and_nothing_else(shop: Path) -> None:
    before = content_hash(shop)
    (shop / "notes.txt").write_text("nothing that anyone reads")
    (shop / "truth.parquet").write_text("nor this")
    assert content_hash(shop) == before


def test_every_part_of_a_table_counts(shop: Path) -> None:
    before = content_hash(shop)
    (shop / "parts").mkdir()
    (shop / "impressions.parquet").rename(shop / "parts/0.parquet")
    (shop / "parts").rename(shop / "impressions")
    assert content_hash(shop) == before
    rows = pq.read_table(shop / "impressions/0.parquet")
    pq.write_table(rows.slice(1), shop / "impressions/1.parquet")
    more = content_hash(shop)
    pq.write_table(rows.slice(2), shop / "impressions/1.parquet")
    assert len({before, more, content_hash(shop)}) == 3
    (shop / "impressions").rename(shop / "impressions.parquet")
    assert content_hash(shop)


def test_a_repaired_picture_counts(shop: Path) -> None:
    before = content_hash(shop)
    (shop / "photo.jpg").write_bytes(b"another photo")
    mended = content_hash(shop)
    os.utime(shop / "photo.jpg", (0, 0))
    touched = content_hash(shop)
    (shop / "photo.jpg").unlink()
    assert len({before, mended, touched, content_hash(shop)}) == 4


def test_the_mapping_counts_and_pictures_are_found_through_it(shop: Path) -> None:
    items = pq.read_table(shop / "items.parquet")
    names = ["Bild" if name == "image" else f"my {name}" for name in items.column_names]
    pq.write_table(items.rename_columns(names), shop / "items.parquet")
    rules = "".join(f"{name} = 'my {name}'\n" for name in items.column_names if name != "image")
    (shop / "map.toml").write_text(f"[items.columns]\nimage = 'Bild'\n{rules}")
    before = content_hash(Shop.of(shop, shop / "map.toml"))
    (shop / "photo.jpg").write_bytes(b"another photo")
    after = content_hash(Shop.of(shop, shop / "map.toml"))
    (shop / "map.toml").write_text((shop / "map.toml").read_text().replace("'my title'", "'my description'"))
    assert len({before, after, content_hash(Shop.of(shop, shop / "map.toml"))}) == 3


def test_a_table_that_cannot_be_read_is_named(shop: Path) -> None:
    (shop / "queries.parquet").write_text("no table")
    with pytest.raises(ContractError, match=r"queries\.parquet is not a readable Parquet file"):
        content_hash(shop)


def test_a_listing_shows_new_and_changed_files_without_reading_them(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "impressions").mkdir()
    (shop / "impressions.parquet").rename(shop / "impressions/0.parquet")
    for number in range(1, 3000):
        (shop / f"impressions/{number}.parquet").write_bytes(b"")  # it could not be read
    counted: list[str] = []
    info = Location._info
    monkeypatch.setattr(Location, "_info", lambda self: counted.append(self.uri) or info(self))
    monkeypatch.setattr(Location, "read", lambda self: pytest.fail(f"{self.uri} was read"))
    before = listing_hash(shop)
    assert listing_hash(str(shop)) == before
    assert len(counted) < 100, "files of a folder are listed together, not asked for one by one"
    (shop / "impressions/3000.parquet").write_bytes(b"")
    added = listing_hash(shop)
    os.utime(shop / "impressions/7.parquet", ns=(0, 1))
    touched = listing_hash(shop)
    (shop / "items.parquet").write_bytes(b"other")
    assert len({before, added, touched, listing_hash(shop)}) == 4


def test_a_listing_without_a_table_is_refused(shop: Path) -> None:
    (shop / "items.parquet").unlink()
    with pytest.raises(ContractError, match=r"items\.parquet is missing"):
        listing_hash(shop)


def test_declared_attributes_are_part_of_the_listing(shop: Path) -> None:
    before = listing_hash(shop)
    (shop / "attributes.toml").write_text('colour = "keyword"\n')
    assert listing_hash(shop) != before


@pytest.mark.parametrize(
    "images",
    [
        pa.array([2**62] * 4).view(pa.timestamp("ms")),
        pa.array([1] * 4).view(pa.timestamp("s", "Nowhere/Zone")),
        pa.array([2**31 - 1] * 4, pa.int32()).view(pa.date32()),
    ],
)
def test_pictures_of_a_type_that_cannot_be_a_path(shop: Path, images: pa.Array) -> None:
    """Validation refuses them with a sentence; the hash, which comes first, ended with a stack."""
    items = pq.read_table(shop / "items.parquet")
    pq.write_table(
        items.set_column(items.schema.get_field_index("image"), "image", images), shop / "items.parquet"
    )
    assert content_hash(shop)


def test_paths_as_bytes_are_paths(shop: Path) -> None:
    items = pq.read_table(shop / "items.parquet")
    paths = pa.array([b"photo.jpg"] * 4)
    pq.write_table(
        items.set_column(items.schema.get_field_index("image"), "image", paths), shop / "items.parquet"
    )
    before = content_hash(shop, items_only=True)
    (shop / "photo.jpg").write_bytes(b"another photo")
    assert content_hash(shop, items_only=True) != before
