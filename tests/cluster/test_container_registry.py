"""The client of container registries: a real one with a password, and a stand-in for one that issues tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from immr.cluster.container_registry import MANIFEST, Blob, ImageName, Repository, _Login
from tests.support import registry_process
from tests.support.stand_in_server import JsonHandler, served

LAYER = "application/vnd.oci.image.layer.v1.tar"


def image(layer: Blob, config: Blob) -> Blob:
    described = {"config": config.described(), "layers": [layer.described()]}
    return Blob(MANIFEST, json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **described}).encode())


def test_an_image_is_found_under_its_tag(
    container_registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, folder = container_registry
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    (tmp_path / "layer").write_bytes(b"0123456789" * 300_000)  # several reads of the file
    layer = Blob(LAYER, tmp_path / "layer")
    config = Blob("application/vnd.oci.image.config.v1+json", b"{}")
    manifest = image(layer, config)
    with Repository(ImageName(host, "a/b", "1")) as repository:
        assert repository.digest_of("1") is None
        repository.push("1", manifest, [layer, config])
        assert repository.digest_of("1") == manifest.digest
    assert registry_process.pulled(host, "a/b", "1")[1][layer.digest] == (tmp_path / "layer").read_bytes()


def test_a_wrong_password_is_refused(
    container_registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = container_registry
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    secret = {"auths": {host: {"auth": base64.b64encode(b"shop:wrong").decode()}}}
    (tmp_path / ".dockerconfigjson").write_text(json.dumps(secret))  # as a mounted Secret calls it
    with (
        Repository(ImageName(host, "a/b", "1")) as repository,
        pytest.raises(ConnectionError, match="returned 401 for HEAD"),
    ):
        repository.digest_of("1")


def test_a_registry_that_is_away_is_named() -> None:
    with (
        Repository(ImageName("127.0.0.1:9", "a/b", "1")) as repository,
        pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9 does not answer"),
    ):
        repository.digest_of("1")


@pytest.mark.parametrize(
    "text", ["immr-search:1", "host/Upper:1", "host/a", "host/a@sha256:12", "host/a:b c"]
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST/REPOSITORY:TAG"):
        ImageName.of(text)
    assert ImageName.of("host:5000/a/b-c:1.0").place == "host:5000/a/b-c"


class Issuer(JsonHandler):
    """As Docker's token specification says: a challenge that names the issuer, a token for a scope."""

    asked: list[str]

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") == "Bearer for-pull":
            self.send_response(200)
            self.send_header("Docker-Content-Digest", "sha256:1")
        else:
            realm = f"http://{self.headers['Host']}/token"
            self.send_response(401)
            self.send_header(
                "WWW-Authenticate", f'Bearer realm="{realm}",service="shop",scope="repository:a/b:pull"'
            )
        self.end_headers()

    def do_GET(self) -> None:
        self.asked.append(f"{self.path} {self.headers.get('Authorization')}")
        self.answer({"token": "for-pull"})


@contextmanager
def stand_in(handler: type[JsonHandler], **fields: Any) -> Iterator[str]:
    """Serve a handler with these attributes; yields its host."""
    with served(type("Bound", (handler,), fields)) as url:
        yield url.removeprefix("http://")


def log_in(folder: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write Docker's configuration; returns the header of a login with the password."""
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    secret = {"auths": {host: {"username": "shop", "password": "secret"}}}
    (folder / "config.json").write_text(json.dumps(secret))
    return f"Basic {base64.b64encode(b'shop:secret').decode()}"


def test_a_token_comes_from_the_place_that_the_registry_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with stand_in(Issuer, asked=asked) as host:
        basic = log_in(tmp_path, host, monkeypatch)
        with Repository(ImageName(host, "a/b", "1")) as repository:
            assert [repository.digest_of("1"), repository.digest_of("1")] == ["sha256:1", "sha256:1"]
    assert asked == [f"/token?service=shop&scope=repository%3Aa%2Fb%3Apull {basic}"]


class NoIssuer(JsonHandler):
    """A registry whose place for tokens answers with this."""

    status: int
    body: dict[str, str]

    def do_HEAD(self) -> None:
        self.send_response(401)
        place = f"http://127.0.0.1:{self.server.server_address[1]}/token"  # type: ignore[str-bytes-safe]
        self.send_header("WWW-Authenticate", f'Bearer realm="{place}"')
        self.end_headers()

    def do_GET(self) -> None:
        self.answer(self.body, self.status)


@pytest.mark.parametrize(("status", "body"), [(404, {}), (403, {"token": "no"}), (200, {"details": "none"})])
def test_without_a_token_an_image_is_not_reported_as_missing(
    status: int, body: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The issuer's 404 was taken for the registry's, so the image was said to be missing."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with (
        stand_in(NoIssuer, status=status, body=body) as host,
        Repository(ImageName(host, "a/b", "1")) as repository,
        pytest.raises(ConnectionError, match=f"/token returned {status} without a token"),
    ):
        repository.digest_of("1")


class StoresElsewhere(JsonHandler):
    """A registry before an object store of another name, to which it sends readers and writers of blobs."""

    stored: str
    written: list[tuple[str, str | None, bytes]]
    broken = False

    def do_HEAD(self) -> None:
        if "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="shop"')
        elif self.path.endswith(self.stored):
            self.send_response(307)
            self.send_header("Location", self.elsewhere("stored"))
        else:
            self.send_response(404)
        self.end_headers()

    def do_POST(self) -> None:
        self.send_response(202)
        if not self.broken:
            self.send_header("Location", self.elsewhere("new?state=signed"))
        self.end_headers()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.written.append((self.path, self.headers.get("Authorization"), content))
        self.send_response(201)
        self.end_headers()

    def elsewhere(self, path: str) -> str:
        return f"http://localhost:{self.server.server_address[1]}/{path}"  # type: ignore[str-bytes-safe]


def test_an_object_store_behind_the_registry_gets_the_blob_but_not_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layer").write_bytes(b"layer")
    layer, config = Blob(LAYER, tmp_path / "layer"), Blob("application/json", b"{}")
    written: list[tuple[str, str | None, bytes]] = []
    with stand_in(StoresElsewhere, stored=config.digest, written=written) as host:
        basic = log_in(tmp_path, host, monkeypatch)
        with Repository(ImageName(host, "a/b", "1")) as repository:
            repository.push("1", image(layer, config), [config, layer])
    (path, password, content), (manifest, of_registry, _) = written
    assert path == f"/new?state=signed&digest={quote(layer.digest, safe='')}"
    assert (password, content) == (None, b"layer")
    assert (manifest, of_registry) == ("/v2/a/b/manifests/1", basic)


def test_an_upload_without_a_location_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(StoresElsewhere, stored="none", written=[], broken=True) as host:
        log_in(tmp_path, host, monkeypatch)
        with (
            Repository(ImageName(host, "a/b", "1")) as repository,
            pytest.raises(ConnectionError, match="returned 202 without the header Location"),
        ):
            repository.push("1", Blob(MANIFEST, b"{}"), [Blob(LAYER, b"layer")])


def test_the_password_is_not_sent_in_the_clear() -> None:
    login = _Login(("shop", "secret"), httpx.URL("https://registry.example"))
    flow = login.auth_flow(httpx.Request("HEAD", "https://registry.example/v2/a/b/manifests/1"))
    next(flow)
    challenge = {"WWW-Authenticate": 'Bearer realm="http://tokens.example/"'}
    with pytest.raises(ConnectionError, match=r"sent to http://tokens\.example/ without encryption"):
        flow.send(httpx.Response(401, headers=challenge))
