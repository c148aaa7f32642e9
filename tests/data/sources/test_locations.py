"""Places on object storage, as messages and cache keys name them."""

from __future__ import annotations

import pytest

from immr.data.sources.locations import Location


@pytest.mark.parametrize("uri", ["gs://shop/tables", "gs://shop/tables/"])
def test_a_file_below_a_folder_is_named_the_same_with_and_without_a_slash(uri: str) -> None:
    folder = Location.of(uri)
    assert (folder.path, folder.uri) == ("shop/tables", "gs://shop/tables")
    assert (
        (folder / "items.csv").uri
        == folder._below("shop/tables/items.csv").uri
        == "gs://shop/tables/items.csv"
    )
