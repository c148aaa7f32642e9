"""Pictures that are not where the table says: the check says how to map the column, and the mapping finds them."""

from pathlib import Path

import pyarrow as pa
import pytest

from immr.data.sources.shop import Shop
from immr.data.validation.check import check
from tests.data.validation.test_check import changed, report_of
from tests.data.validation.test_tables import item, write


@pytest.mark.parametrize(
    ("there", "named", "says"),
    [
        ("images/{}.jpg", "{}.jpg", "to find them in images/"),
        ("images/large/{}.jpg", "{}.jpg", "to find them in images/large/"),
        ("images/{}.jpg", "C:\\shop\\images\\{}.jpg", "to find them in images/"),
        ("images/{}.jpg", "/srv/www/media/{}.jpg", "to find them in images/"),
        ("images/{}.jpg", "/images/{}.jpg", "to start at the folder of the tables"),
        ("my images/{} a.jpg", "my%20images/{}%20a.jpg", "to read its %20 as a space"),
        ("my images/{} a.jpg", "{}%20a.jpg", "to find them in my images/"),
        ("images/{}.jpg", "images\\{}.jpg", "to read its \\ as /"),
        ("images/{}.JPG", "images/{}.jpg", "to read their .jpg as .JPG"),
        ("{}.JPEG", "{}.jpg", "to read their .jpg as .JPEG"),
    ],
)
def test_the_remedy_works(tmp_path: Path, there: str, named: str, says: str) -> None:
    folder = write(tmp_path / "in", items=[item(name) for name in "abc"])
    for name in "abc":
        (folder / there.format(name)).parent.mkdir(parents=True, exist_ok=True)
        (folder / there.format(name)).touch()
    changed(folder, "items", "image", pa.array([named.format(name) for name in "abc"]))
    found = report_of(folder, "items").missing_pictures
    assert f"; {says}, map image = " in found
    (tmp_path / "map.toml").write_text(f"[items.columns]\n{found.partition(', map ')[2]}\n")
    [items, *_] = check(Shop.of(str(folder), tmp_path / "map.toml"))
    assert items.fits and items.missing_pictures == ""


def test_an_archive_beside_the_tables_has_to_be_unpacked(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    changed(folder, "items", "image", pa.array(["1.jpg"]))
    assert report_of(folder, "items").missing_pictures.endswith("in/1.jpg")
    (folder / "pictures.zip").touch()
    assert report_of(folder, "items").missing_pictures.endswith("; pictures.zip is packed: unpack it")
