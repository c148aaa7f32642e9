"""A catalogue change is found by the search that runs, on both embedded engines, and outlives it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import httpx
import pytest

from immr import wiring
from immr.index.port import Changes
from immr.settings import Settings
from tests import tiny_version
from tests.serving.conftest import served_version, wait_ready


def found(url: str) -> list[str]:
    answer = httpx.post(f"{url}/v1/search", files={"image": ("a.jpg", tiny_version.photo("red"))})
    return [hit["item_id"] for hit in answer.json()["hits"]]


@pytest.mark.parametrize("scheme", ["file", "edge"])
def test_an_upserted_item_is_found_and_a_deleted_one_is_not(tmp_path: Path, scheme: str) -> None:
    settings = Settings(home=tmp_path, index_url=f"{scheme}://{tmp_path}/index")
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    catalogue = tiny_version.items(tmp_path / "pictures")
    tiny_version.build_index(settings, folder, catalogue)
    index, version = wiring.index(settings), tiny_version.version()
    with served_version(settings, folder) as url:
        wait_ready(url)
        assert found(url)[0] == "red"
        new = dataclasses.replace(catalogue[0], item_id="new red", title="a new red thing")
        vector = tiny_version.embed(folder, catalogue[:1])
        index.change(version, Changes([new], vector, ["red"], [1, 2]))
        deadline = time.monotonic() + 60
        while found(url)[0] != "new red":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "red" not in found(url)
        assert index.applied("immr-1") == 2
    with served_version(settings, folder) as url:
        wait_ready(url)
        assert found(url)[0] == "new red" and "red" not in found(url)


@pytest.mark.parametrize("scheme", ["file", "edge"])
def test_a_version_that_is_indexed_anew_while_it_serves_is_searched_anew(tmp_path: Path, scheme: str) -> None:
    settings = Settings(home=tmp_path, index_url=f"{scheme}://{tmp_path}/index")
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    catalogue = tiny_version.items(tmp_path / "pictures")
    tiny_version.build_index(settings, folder, catalogue)
    index, version = wiring.index(settings), tiny_version.version()
    with served_version(settings, folder) as url:
        wait_ready(url)
        tiny_version.build_index(settings, folder, catalogue[1:])
        index.change(version, Changes([], tiny_version.embed(folder, catalogue[:1])[:0], ["blue"], [1]))
        deadline = time.monotonic() + 60
        while {"red", "blue"} & set(found(url)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(found(url)) == 3
        assert index.applied("immr-1") == 1
