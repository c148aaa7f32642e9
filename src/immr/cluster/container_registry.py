"""Finds and pushes images in a container registry, from which nodes pull (OCI Distribution API 1.1)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlencode

import httpx

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ACCEPTED = ", ".join(
    (
        MANIFEST,
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_TIMEOUT_S = 60.0
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_CONFIG_FILES = ("config.json", ".dockerconfigjson")  # Docker's name, and a Secret's


class ImageName(NamedTuple):
    """An image: `registry.example/immr/immr-search:immr-3`."""

    host: str
    repository: str
    tag: str

    @classmethod
    def of(cls, text: str) -> ImageName:
        """Read `HOST/REPOSITORY:TAG`.

        Raises:
            ValueError: The text has another form, such as a digest or no host.
        """
        found = re.fullmatch(r"([^/@]+)/([a-z0-9][a-z0-9._/-]*):([\w][\w.-]{0,127})", text)
        if found is None:
            raise ValueError(f"{text!r} is not HOST/REPOSITORY:TAG")
        return cls(*found.groups())

    @property
    def place(self) -> str:
        """Without the tag."""
        return f"{self.host}/{self.repository}"


@dataclass(frozen=True)
class Blob:
    """A part of an image, stored under its hash. A file must not change during the push."""

    media_type: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the hash."""
        if isinstance(self.content, bytes):
            return f"sha256:{hashlib.sha256(self.content).hexdigest()}"
        with self.content.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def described(self) -> dict[str, str | int]:
        """As a manifest names it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class Repository:
    """One repository of a registry, for a `with` block.

    The login comes from Docker's configuration in the folder DOCKER_CONFIG, or from a Secret mounted there. Every
    method raises `OSError` if the registry does not answer or refuses.
    """

    def __init__(self, image: ImageName) -> None:
        local = image.host.partition(":")[0] in ("localhost", "127.0.0.1")
        self._base = f"{'http' if local else 'https'}://{image.host}"
        self._path = f"/v2/{image.repository}"
        login = _Login(_credentials(image.host), httpx.URL(self._base))
        self._client = httpx.Client(base_url=self._base, auth=login, timeout=_TIMEOUT_S)

    def digest_of(self, tag: str) -> str | None:
        """The digest of the image with this tag; None if there is none."""
        answer = self._send("HEAD", f"{self._path}/manifests/{tag}", {"Accept": _ACCEPTED})
        return None if answer.status_code == 404 else self._header(answer, "Docker-Content-Digest")

    def push(self, tag: str, manifest: Blob, parts: list[Blob]) -> None:
        """Push an image's parts, unless they are there, and its manifest last."""
        for part in parts:
            digest = part.digest
            # a registry may redirect to the object store that has the blob
            if self._send("HEAD", f"{self._path}/blobs/{digest}").status_code != 404:
                continue
            begun = self._send("POST", f"{self._path}/blobs/uploads/")
            location = str(begun.url.join(self._header(begun, "Location")))
            joint = "&" if "?" in location else "?"
            self._put(f"{location}{joint}{urlencode({'digest': digest})}", part)
        self._put(f"{self._path}/manifests/{tag}", manifest)

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _put(self, url: str, blob: Blob) -> None:
        kind = blob.media_type if blob.media_type == MANIFEST else "application/octet-stream"
        headers = {"Content-Type": kind}
        if isinstance(blob.content, bytes):
            self._send("PUT", url, headers, blob.content)
            return
        with blob.content.open("rb") as file:  # httpx sends it in pieces, with its length
            self._send("PUT", url, headers, file)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | BinaryIO | None = None,
    ) -> httpx.Response:
        """The answer: a success, or a HEAD's redirect or 404."""
        try:
            answer = self._client.request(method, url, headers=headers, content=content)
        except httpx.HTTPError as error:
            raise ConnectionError(f"{self._base} does not answer: {error}") from error
        found = answer.is_success or (method == "HEAD" and (answer.is_redirect or answer.status_code == 404))
        if not found:
            place = url.partition("?")[0]  # what follows may be a secret of an upload
            raise ConnectionError(
                f"{self._base} returned {answer.status_code} for {method} {place}: {answer.text[:200]}"
            )
        return answer

    def _header(self, answer: httpx.Response, name: str) -> str:
        if name not in answer.headers:
            raise ConnectionError(f"{self._base} returned {answer.status_code} without the header {name}")
        return answer.headers[name]


class _Login(httpx.Auth):
    """Answers a registry's challenge with the password, or with a token from the place that it names.

    Another host, such as an object store that takes uploads, gets neither.
    """

    requires_response_body = True

    def __init__(self, credentials: tuple[str, str] | None, registry: httpx.URL) -> None:
        self._credentials, self._registry = credentials, registry
        self._header = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if (request.url.scheme, request.url.netloc) != (self._registry.scheme, self._registry.netloc):
            yield request
            return
        if self._header:
            request.headers["Authorization"] = self._header
        answer = yield request
        if answer.status_code != 401:
            return
        kind, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        named = dict(_PARAMETER.findall(rest))
        basic = ""
        if self._credentials:
            basic = f"Basic {base64.b64encode(':'.join(self._credentials).encode()).decode()}"
        if kind.lower() == "bearer" and "realm" in named:
            query = {name: named[name] for name in ("service", "scope") if name in named}
            realm = request.url.join(named["realm"])
            if basic and realm.scheme not in ("https", request.url.scheme):
                raise ConnectionError(
                    f"{self._registry} wants its password sent to {realm} without encryption"
                )
            issued = yield httpx.Request(
                "GET", realm, params=query, headers={"Authorization": basic} if basic else None
            )
            self._header = f"Bearer {_token(issued, realm)}"
        elif basic:
            self._header = basic
        else:
            return
        request.headers["Authorization"] = self._header
        yield request


def _token(answer: httpx.Response, realm: httpx.URL) -> str:
    """The token in an issuer's answer.

    Raises:
        ConnectionError: There is none.
    """
    try:
        found = answer.json() if answer.is_success else {}
        token = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError):  # not JSON, or not an object
        token = None
    if not token:
        raise ConnectionError(f"{realm} returned {answer.status_code} without a token: {answer.text[:200]}")
    return str(token)


def _credentials(host: str) -> tuple[str, str] | None:
    """User and password of a host in Docker's configuration; None if it has none.

    Raises:
        ValueError: The file is damaged.
    """
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for file in (folder / name for name in _CONFIG_FILES):
        if file.is_file():
            hosts = json.loads(file.read_text()).get("auths", {})
            entry = hosts.get(host) or hosts.get(f"https://{host}") or {}
            if "auth" in entry:
                user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
                return user, password
            if "username" in entry:
                return entry["username"], entry["password"]
    return None
