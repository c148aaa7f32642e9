"""Pictures in a real S3 server are fetched like those behind URLs, from places that the mapping names only."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.fs as fs
import pytest

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.buckets import Buckets, is_in, is_object
from immr.data.pictures.remote.downloads import Downloads, is_fetched
from immr.data.pictures.remote.requests import RequestFailedError
from immr.errors import DataError
from tests.support import s3_process
from tests.support.stand_in_server import served
from tests.support.upstream_process import free_port

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
    folders = Downloads(tmp_path, rules).fetch([f"{BUCKET}/photos/", f"{BUCKET}/photos/sub"])
    assert [each.failure for each in folders.values()] == ["no such object"] * 2
    without = Downloads(tmp_path, PictureRules()).fetch(uris[:1])
    assert [each.path for each in without.values()] == [good.path]  # it is kept


@pytest.mark.slow
def test_a_picture_takes_two_requests(store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took four, which is most of the time of a catalogue in S3."""
    asked = list[str]()
    buckets = Buckets(PictureRules(buckets=(BUCKET,)))
    buckets.read(f"{BUCKET}/other/c.jpg")  # finds the region first
    root = buckets._opened[BUCKET]

    class Counting:
        def __getattr__(self, name: str) -> object:
            asked.append(name)
            return getattr(root.filesystem, name)

    buckets._opened[BUCKET] = replace(root, filesystem=Counting())  # type: ignore[arg-type]
    assert buckets.read(f"{BUCKET}/other/c.jpg") == b"c"
    assert asked == ["open_input_file"]  # asks for the size, and then for the content


@pytest.mark.slow
def test_a_store_that_is_away_is_not_a_matter_of_credentials(
    store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    [found] = Downloads(tmp_path, PictureRules(buckets=(BUCKET,))).fetch([f"{BUCKET}/a.jpg"]).values()
    assert found.failure.endswith("check that AWS_ENDPOINT_URL answers, and run this again")


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


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status in its bucket's name."""

    def do_HEAD(self) -> None:
        self.send_response(int(self.path.split("/")[1].removeprefix("status-")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


class Expiring(http.server.BaseHTTPRequestHandler):
    """Answers with pictures, in a bucket that nobody may list, until the token expires."""

    protocol_version = "HTTP/1.1"
    answers = 0
    expires_after = 10**9

    def do_HEAD(self) -> None:
        Expiring.answers += 1
        status = 403 if "denied" in self.path else 200
        status = 400 if Expiring.answers > Expiring.expires_after else status
        self.send_response(status)
        self.send_header("Content-Length", "7" if status == 200 else "0")
        self.end_headers()
        if status == 200 and self.command == "GET":
            self.wfile.write(b"picture")

    do_GET = do_HEAD

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def expiring(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Expiring]]:
    monkeypatch.setattr(Expiring, "answers", 0)
    with served(Expiring) as url:
        keys = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ENDPOINT_URL": url}
        for name, value in keys.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield Expiring


def test_credentials_that_expire_stop_the_run_and_the_next_resumes(
    expiring: type[Expiring], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All other pictures were rejected, one by one."""
    uris = [f"{BUCKET}/{number}.jpg" for number in range(500)]
    monkeypatch.setattr(expiring, "expires_after", 400)
    rules = PictureRules(buckets=(BUCKET,), parallel=4)
    with pytest.raises(
        DataError, match=r"is now denied, so the credentials have probably expired: renew them"
    ):
        Downloads(tmp_path, rules).fetch(uris)
    assert expiring.answers < 600, "not all were tried"
    expiring.answers, expiring.expires_after = 0, 10**9
    assert all(found.path for found in Downloads(tmp_path, rules).fetch(uris).values())
    assert expiring.answers < 2 * 400, "those fetched before are kept"


def test_a_picture_that_may_not_be_read_fails_alone(expiring: type[Expiring], tmp_path: Path) -> None:
    """A store that hides its list denies what is missing, too."""
    uris = [f"{BUCKET}/{name}.jpg" for name in ("a", "denied", "b")]
    found = Downloads(tmp_path, PictureRules(buckets=(BUCKET,))).fetch(uris)
    good, denied, also = (found[uri] for uri in uris)
    assert good.path and also.path and "ACCESS_DENIED" in denied.failure


@pytest.mark.parametrize(
    ("status", "is_outage", "remedy"),
    [
        (403, False, "whether they have expired, and run this again"),
        (400, False, "whether they have expired, and run this again"),  # for a token that has expired
        (501, True, "check that AWS_ENDPOINT_URL answers"),
    ],
)
def test_a_store_that_refuses_differs_from_one_that_is_out(
    status: int, is_outage: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        keys = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
        for name, value in {**keys, "ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        try:
            with pytest.raises(RequestFailedError, match=remedy) as failed:
                Buckets(PictureRules(buckets=("s3://",))).read(f"s3://status-{status}/a.jpg")
        finally:
            server.shutdown()
            thread.join()
    assert failed.value.is_outage == is_outage
