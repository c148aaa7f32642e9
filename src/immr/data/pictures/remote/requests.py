"""Requests for pictures over HTTP, from public addresses only unless the rules allow others.

The address is checked where the connection is made, so that neither a redirect nor a name that changes its address
gets around it (server-side request forgery).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Self
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpcore

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures import picture_files
from immr.data.pictures.file_kinds import media_type_of
from immr.data.pictures.remote.public_network import ForbiddenAddressError, PublicNetwork
from immr.errors import ContractError, ImageError
from immr.machine.deadline import DeadlineNetwork

_ACCEPTED = "image/jpeg, image/png, image/webp, image/gif, image/bmp, image/*;q=0.1"  # servers choose by it
_OURS = {"User-Agent": "immr", "Accept": _ACCEPTED}  # of every request
_REDIRECTS = 5
_PAGES = ("text/html", "application/json", "application/xhtml")  # "please wait", although the status is 200
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_MIN_SIDE_PX = 32  # of a picture that is decoded only to see whether it is whole


def is_url(uri: str) -> bool:
    """Whether a picture has to be fetched."""
    return uri[:8].lower().startswith(("http://", "https://"))


class RequestFailedError(Exception):
    """A request failed.

    Attributes:
        retried: whether it may succeed later.
        after_s: the seconds until then that the server asks for.
        is_outage: whether the server did not answer, or with an error that says nothing about this picture.
    """

    def __init__(
        self, reason: str, retried: bool, after_s: float = 0.0, is_outage: bool | None = None
    ) -> None:
        super().__init__(reason)
        self.retried, self.after_s = retried, after_s
        self.is_outage = retried if is_outage is None else is_outage


class PictureRequests:
    """A pool of connections; a context manager. Thread-safe."""

    def __init__(self, rules: PictureRules) -> None:
        """Reads the values of headers; connects on the first request.

        Raises:
            ContractError: a file with a header's value cannot be read.
        """
        self._rules = rules
        self._headers = _headers(rules)
        self._large = threading.Lock()
        self._network = DeadlineNetwork()
        self._pool = httpcore.ConnectionPool(
            max_connections=max(1, rules.parallel),
            network_backend=self._network if rules.allow_private else PublicNetwork(self._network),
            keepalive_expiry=30.0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def read(self, url: str) -> bytes:
        """The content behind a URL or where it redirects to, within the time and size of one try.

        Raises:
            RequestFailedError: with the reason.
        """
        self._network.start(self._rules.timeout_s)
        try:
            return self._redirected(_in_ascii(url))
        except ForbiddenAddressError as error:
            raise RequestFailedError(str(error), retried=False) from error
        except (httpcore.UnsupportedProtocol, ValueError) as error:
            raise RequestFailedError(f"not a valid URL ({error})", retried=False) from error
        except httpcore.TimeoutException as error:
            raise RequestFailedError(
                f"not complete after {self._rules.timeout_s:g} s", retried=True
            ) from error
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise RequestFailedError(f"{type(error).__name__} ({error})", retried=True) from error

    def _redirected(self, url: str) -> bytes:
        """The body behind a URL or where it redirects to."""
        scheme, host = urlsplit(url)[:2]
        for _ in range(_REDIRECTS + 1):
            # secrets stay with the host that they are for, and are not sent in the clear after https
            own = urlsplit(url)[:2] in ((scheme, host), ("https", host))
            location, content = self._answer(url, self._headers if own else _OURS)
            if location is None:
                return content
            url = _in_ascii(urljoin(url, location))
            if not is_url(url):
                raise RequestFailedError(f"redirected to {url}", retried=False)
        raise RequestFailedError(f"redirected more than {_REDIRECTS} times", retried=False)

    def _answer(self, url: str, headers: Mapping[str, str]) -> tuple[str | None, bytes]:
        """Where a redirect leads, or the body."""
        with self._pool.stream("GET", url, headers=list(headers.items())) as response:
            fields = {name.lower(): value.decode("utf-8", "replace") for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and b"location" in fields:
                return fields[b"location"], b""
            if response.status != 200:
                after_s = _seconds(fields.get(b"retry-after", ""))
                status, is_outage = response.status, response.status >= 500
                raise RequestFailedError(f"answered {status}", status in _RETRIED, after_s, is_outage)
            content, kind = self._body(response), fields.get(b"content-type", "").lower()
            if kind.startswith(_PAGES) and media_type_of(content) is None:
                raise RequestFailedError(f"answered with {kind} instead of a picture", True, is_outage=False)
            if not {b"content-length", b"transfer-encoding"} & fields.keys():
                self._check_whole(content)
            return None, content

    def _check_whole(self, content: bytes) -> None:
        """Refuses a broken picture that may have been cut off: only its end of the connection ended it."""
        if media_type_of(content) is None:
            return
        try:
            picture_files.decode(content, _MIN_SIDE_PX, whole=self._large)
        except ImageError as error:
            raise RequestFailedError(
                f"answered without Content-Length, and {error}", True, is_outage=False
            ) from error

    def _body(self, response: httpcore.Response) -> bytes:
        most, content = int(self._rules.max_mb * 1e6), bytearray()
        for chunk in response.iter_stream():
            content += chunk
            if len(content) > most:
                raise RequestFailedError(f"more than {self._rules.max_mb:g} MB", retried=False)
        return bytes(content)


def _headers(rules: PictureRules) -> dict[str, str]:
    secrets = {}
    for name, path in rules.header_files.items():
        try:
            secrets[name] = path.read_text().strip()
        except (OSError, ValueError) as error:
            raise ContractError(
                f"the value of the header {name} cannot be read from {path} ({error}): correct "
                "pictures.header_files in the mapping"
            ) from error
    return {**_OURS, **rules.headers, **secrets}


def _in_ascii(url: str) -> str:
    """The URL as browsers send it: host names in IDNA, spaces and letters like "ö" as UTF-8 in percent signs.

    Raises:
        ValueError: The text is not a URL.
    """
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    whole = urlunsplit(parts._replace(netloc=host, fragment=""))
    return re.sub(r"[^!-~]+", lambda found: quote(found[0]), whole)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 0.0
