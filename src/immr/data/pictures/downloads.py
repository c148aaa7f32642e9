"""Pictures behind http(s) URLs: fetched in parallel, once, and kept by content.

Pictures are requested from public addresses only: a table cannot make IMMR read a service of the private network
(server-side request forgery). The address is checked where the connection is made, so that neither a redirect
nor a name that changes its address gets around it.
"""

from __future__ import annotations

import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpcore

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.public_network import ForbiddenAddressError, PublicNetwork
from immr.errors import ContractError
from immr.machine.progress_bar import ProgressBar
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically

FETCHED = re.compile(r"(.+)/[0-9a-f]{2}/[0-9a-f]{64}")
"""The path of a fetched picture; its group is the folder of all of them."""
_REDIRECTS = 5
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_AT_ONCE = 256  # then what was fetched goes to the journal
_TABLE = "CREATE TABLE IF NOT EXISTS fetched (url TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID"


def is_url(uri: str) -> bool:
    """Whether a picture has to be fetched."""
    return uri.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Fetched:
    """The file of a fetched picture, or why fetching failed."""

    path: Path | None
    failure: str = ""


class _FailedError(Exception):
    """A request failed. `retried`: it may succeed later, after the `after_s` seconds that the server asks for."""

    def __init__(self, reason: str, retried: bool, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retried, self.after_s = retried, after_s


class Downloads:
    """Fetches pictures by URL into a folder: files named by SHA-256, and a journal of the URLs fetched.

    A URL is fetched once; a run that was killed resumes. Failures are not kept, so the next run tries them again.

    Args:
        folder: where pictures are kept.
        rules: how they are fetched.
        pause: waits for some seconds before a retry.
    """

    def __init__(
        self, folder: Path, rules: PictureRules | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._folder, self._rules, self._pause = folder, rules or PictureRules(), pause

    def fetch(self, urls: Iterable[str]) -> dict[str, Fetched]:
        """The pictures of these URLs, from the folder or the network.

        Raises:
            ContractError: a file with a header's value cannot be read.
        """
        wanted = list(dict.fromkeys(urls))
        if not wanted:
            return {}
        self._folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._folder / "fetched.db")) as journal:
            journal.execute(_TABLE)
            found = {url: Fetched(path) for url, path in self._known(journal, wanted).items()}
            missing = [url for url in wanted if url not in found]
            with ProgressBar("fetching pictures", len(missing), "pictures") as progress:
                for fetched in self._from_network(missing):
                    rows = [(url, each.path.name) for url, each in fetched.items() if each.path]
                    with journal:
                        journal.executemany("INSERT OR REPLACE INTO fetched VALUES (?, ?)", rows)
                    found |= fetched
                    progress.advance(len(fetched))
        return found

    def _known(self, journal: sqlite3.Connection, urls: Sequence[str]) -> dict[str, Path]:
        known = {}
        for url in urls:
            row = journal.execute("SELECT sha256 FROM fetched WHERE url = ?", (url,)).fetchone()
            if row and (path := self._path(row[0])).is_file():
                known[url] = path
        return known

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _from_network(self, urls: Sequence[str]) -> Iterator[dict[str, Fetched]]:
        """What became of each URL, some at a time."""
        if not urls:
            return
        headers = self._headers()
        network = None if self._rules.allow_private else PublicNetwork()
        connections = max(1, self._rules.parallel)
        with (
            httpcore.ConnectionPool(
                max_connections=connections, network_backend=network, keepalive_expiry=30.0
            ) as pool,
            ThreadPoolExecutor(connections) as threads,
        ):
            for start in range(0, len(urls), _AT_ONCE):
                some = urls[start : start + _AT_ONCE]
                running = {threads.submit(self._one, pool, url, headers): url for url in some}
                yield {running[done]: done.result() for done in as_completed(running)}

    def _one(self, pool: httpcore.ConnectionPool, url: str, headers: Mapping[str, str]) -> Fetched:
        for attempt in range(1, self._rules.tries + 1):
            try:
                content = self._content(pool, url, headers)
            except _FailedError as failed:
                if not failed.retried or attempt == self._rules.tries:
                    tried = f" in {attempt} tries" if attempt > 1 else ""
                    return Fetched(None, f"{failed}{tried}")
                pause_s = max(failed.after_s, _FIRST_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
                self._pause(min(pause_s, _LONGEST_PAUSE_S))
                continue
            path = self._path(fingerprint.of_bytes(content))
            if not path.is_file():
                write_atomically(path, content)
            return Fetched(path)
        return Fetched(None, "no try is allowed: set pictures.tries")

    def _content(self, pool: httpcore.ConnectionPool, url: str, headers: Mapping[str, str]) -> bytes:
        """The body behind a URL, within the time and size of one try."""
        try:
            return self._redirected(pool, _in_ascii(url), headers)
        except ForbiddenAddressError as error:
            raise _FailedError(str(error), retried=False) from error
        except (httpcore.UnsupportedProtocol, ValueError) as error:
            raise _FailedError(f"not a valid URL ({error})", retried=False) from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise _FailedError(f"{type(error).__name__} ({error})", retried=True) from error

    def _redirected(self, pool: httpcore.ConnectionPool, url: str, headers: Mapping[str, str]) -> bytes:
        """The body behind a URL or where it redirects to."""
        deadline = time.monotonic() + self._rules.timeout_s
        scheme, host = urlsplit(url)[:2]
        for _ in range(_REDIRECTS + 1):
            # secrets stay with the host that they are for, and are not sent in the clear after https
            own = urlsplit(url)[:2] in ((scheme, host), ("https", host))
            location, content = self._answer(pool, url, headers if own else {}, deadline)
            if location is None:
                return content
            url = _in_ascii(urljoin(url, location))
            if not is_url(url):
                raise _FailedError(f"redirected to {url}", retried=False)
        raise _FailedError(f"redirected more than {_REDIRECTS} times", retried=False)

    def _answer(
        self, pool: httpcore.ConnectionPool, url: str, headers: Mapping[str, str], deadline: float
    ) -> tuple[str | None, bytes]:
        """Where a redirect leads, or the body."""
        left_s = max(0.1, deadline - time.monotonic())
        timeouts = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), left_s)}
        timeouts["timeout"]["pool"] = None  # type: ignore[assignment]  # waiting for a connection is not slowness
        with pool.stream("GET", url, headers=list(headers.items()), extensions=timeouts) as response:
            fields = {name.lower(): value.decode("utf-8", "replace") for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and b"location" in fields:
                return fields[b"location"], b""
            if response.status != 200:
                after_s = _seconds(fields.get(b"retry-after", ""))
                raise _FailedError(f"answered {response.status}", response.status in _RETRIED, after_s)
            return None, self._body(response, deadline)

    def _body(self, response: httpcore.Response, deadline: float) -> bytes:
        most, content = int(self._rules.max_mb * 1e6), bytearray()
        for chunk in response.iter_stream():
            content += chunk
            if len(content) > most:
                raise _FailedError(f"more than {self._rules.max_mb:g} MB", retried=False)
            if time.monotonic() > deadline:
                raise _FailedError(f"not complete after {self._rules.timeout_s:g} s", retried=True)
        return bytes(content)

    def _headers(self) -> dict[str, str]:
        secrets = {}
        for name, path in self._rules.header_files.items():
            try:
                secrets[name] = path.read_text().strip()
            except (OSError, ValueError) as error:
                raise ContractError(
                    f"the value of the header {name} cannot be read from {path} ({error}): correct "
                    "pictures.header_files in the mapping"
                ) from error
        return {"User-Agent": "immr", "Accept": "image/*", **self._rules.headers, **secrets}


def _in_ascii(url: str) -> str:
    """The URL as browsers send it: host names in IDNA, spaces and letters like "ö" as UTF-8 in percent signs.

    Raises:
        ValueError: it is not a URL.
    """
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode("ascii")
    whole = urlunsplit(parts._replace(netloc=host, fragment=""))
    return re.sub(r"[^!-~]+", lambda found: quote(found[0]), whole)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 0.0
