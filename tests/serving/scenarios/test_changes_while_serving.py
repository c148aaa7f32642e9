"""A running search finds catalogue changes, on both embedded engines, and they survive it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from immr.index.vector_index import Changes, VectorIndex
from immr.settings import Settings
from immr.types import Item
from immr.wiring import connect
from tests.support import http_client, tiny_version
from tests.support.in_process import served_version, wait_ready
from tests.support.patience import until


def found(url: str) -> list[str]:
    answer = http_client.post(f"{url}/v1/search", files={"image": ("a.jpg", tiny_version.photo("red"))})
    return [hit["item_id"] for hit in answer.json()["hits"]]


@dataclass
class Shop:
    settings: Settings
    folder: Path
    catalogue: list[Item]
    index: VectorIndex


@pytest.fixture(params=["file", "edge"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    settings = Settings(home=tmp_path, index_url=f"{request.param}://{tmp_path}/index")
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    catalogue = tiny_version.items(tmp_path / "pictures")
    tiny_version.build_index(settings, folder, catalogue)
    return Shop(settings, folder, catalogue, connect(settings).index)


def test_an_upserted_item_is_found_and_a_deleted_one_is_not(shop: Shop) -> None:
    with served_version(shop.settings, shop.folder) as url:
        wait_ready(url)
        assert found(url)[0] == "red"
        new = replace(shop.catalogue[0], item_id="new red", title="a new red thing")
        vector = tiny_version.embed(shop.folder, shop.catalogue[:1])
        shop.index.change(tiny_version.version(), Changes([new], vector, ["red"], [1, 2]))
        until(lambda: found(url)[0] == "new red")
        assert "red" not in found(url)
        assert shop.index.applied("immr-1") == 2
    with served_version(shop.settings, shop.folder) as url:
        wait_ready(url)
        assert found(url)[0] == "new red" and "red" not in found(url)


def test_a_version_that_is_reindexed_while_it_serves_uses_the_new_index(shop: Shop) -> None:
    with served_version(shop.settings, shop.folder) as url:
        wait_ready(url)
        tiny_version.build_index(shop.settings, shop.folder, shop.catalogue[1:])
        none_ND = tiny_version.embed(shop.folder, shop.catalogue[:1])[:0]
        shop.index.change(tiny_version.version(), Changes([], none_ND, ["blue"], [1]))
        until(lambda: not {"red", "blue"} & set(found(url)))
        assert len(found(url)) == 3
        until(lambda: shop.index.applied("immr-1") == 1)  # recorded after the change
