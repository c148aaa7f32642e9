"""The client of container registries: a real one with a password, and a stand-in for one that issues tokens."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from immr.cluster.container_registry import MANIFEST, Blob, ImageName, Repository
from tests.support import registry_process
from tests.support.json_handler import JsonHandler

LAYER = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("registry")
    with registry_process.serving(folder) as host:
        yield host, folder


def image(layer: Blob, config: Blob) -> Blob:
    described = {"config": config.described(), "layers": [layer.described()]}
    return Blob(MANIFEST, json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **described}).encode())


def test_an_image_is_found_under_its_tag(
    registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, folder = registry
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
    registry: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = registry
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    secret = {"auths": {host: {"auth": base64.b64encode(b"shop:wrong").decode()}}}
    (tmp_path / ".dockerconfigjson").write_text(json.dumps(secret))  # as a mounted Secret calls it
    with (
        Repository(ImageName(host, "a/b", "1")) as repository,
        pytest.raises(ConnectionError, match="answers 401 to HEAD"),
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


def test_a_token_comes_from_the_place_that_the_registry_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Issuer,), {"asked": asked})) as server:
        host = f"127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        secret = {"auths": {host: {"username": "shop", "password": "secret"}}}
        (tmp_path / "config.json").write_text(json.dumps(secret))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with Repository(ImageName(host, "a/b", "1")) as repository:
                assert [repository.digest_of("1"), repository.digest_of("1")] == ["sha256:1", "sha256:1"]
        finally:
            server.shutdown()
            thread.join()
    basic = base64.b64encode(b"shop:secret").decode()
    assert asked == [f"/token?service=shop&scope=repository%3Aa%2Fb%3Apull Basic {basic}"]
