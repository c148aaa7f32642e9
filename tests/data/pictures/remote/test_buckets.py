"""Pictures in a real S3 server are fetched like those behind URLs, from places that the mapping names only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as fs
import pytest

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.buckets import is_in, is_object
from immr.data.pictures.remote.downloads import Downloads, is_fetched
from tests.support import s3_process

KEYS = ("photos/a b#ü?.jpg", "photos/big.jpg", "other/c.jpg")
BUCKET = f"s3://{s3_process.BUCKET}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        s3_process.serving(tmp_path_factory.mktemp("s3") / "data") as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        files, _ = fs.FileSystem.from_uri(BUCKET)
        for key, content in {
            "photos/a b#ü?.jpg": b"picture",
            "photos/big.jpg": b"x" * 2000,
            "other/c.jpg": b"c",
        }.items():
            with files.open_output_stream(f"{s3_process.BUCKET}/{key}") as file:
                file.write(content)
        yield


@pytest.mark.slow
def test_pictures_are_fetched_once_and_only_from_named_places(store: None, tmp_path: Path) -> None:
    rules = PictureRules(buckets=(f"{BUCKET}/photos/",), max_mb=0.001)
    uris = [f"{BUCKET}/{key}" for key in (*KEYS, "photos/gone.jpg")]
    found = Downloads(tmp_path, rules).fetch(uris)
    good, big, other, gone = (found[uri] for uri in uris)
    assert good.path and good.path.read_bytes() == b"picture"
    assert (big.failure, gone.failure) == ("more than 0.001 MB", "no such object")
    assert f'add buckets = ["{BUCKET}"] under [pictures]' in other.failure and other.path is None
    without = Downloads(tmp_path, PictureRules()).fetch(uris[:1])
    assert [each.path for each in without.values()] == [good.path]  # it is kept


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("s3://a/b.jpg", True),
        ("gs://c/d/e.jpg", True),
        ("gs://c/dd/e.jpg", False),
        ("gs://c/d/../e.jpg", False),
        ("s3://ab/b.jpg", False),
        ("https://a/b.jpg", False),
        ("a/b.jpg", False),
    ],
)
def test_places(uri: str, allowed: bool) -> None:
    assert is_in(uri, ["s3://a", "gs://c/d/", "https://a", "a"]) == allowed
    assert is_object(uri) == uri.startswith(("s3", "gs")) and is_fetched(uri) == ("://" in uri)
