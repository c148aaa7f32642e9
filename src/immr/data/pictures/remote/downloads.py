"""Pictures behind http(s) URLs and in object stores: fetched in parallel, once, and kept by content.

Pictures are requested from public addresses only (`immr.data.pictures.remote.requests`): a table cannot make IMMR
read a service of the private network.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from immr.data.mapping.shop_map import PictureRules
from immr.data.pictures.remote.buckets import Buckets, is_object
from immr.data.pictures.remote.outages import Outages
from immr.data.pictures.remote.requests import PictureRequests, RequestFailedError, is_url
from immr.machine.progress_bar import ProgressBar
from immr.storage import fingerprint
from immr.storage.atomic import write_atomically

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_FEWEST_FAILURES = 50  # in a row; a host that answers half of the requests never has so many
_AHEAD = 4  # requests that wait for each connection, so that a slow answer keeps no other connection idle
# pictures; a run that is killed fetches at most this many again, besides those in progress
_NOTED_AT_ONCE = 32
_TABLE = "CREATE TABLE IF NOT EXISTS fetched (url TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID"


def is_fetched(uri: str) -> bool:
    """Whether a picture is not a file, but has to be fetched."""
    return is_url(uri) or is_object(uri)


@dataclass(frozen=True)
class Fetched:
    """The file of a fetched picture, or why fetching failed."""

    path: Path | None
    failure: str = ""


class Downloads:
    """Fetches pictures by URL into a folder: files named by SHA-256, and a journal of the URLs fetched.

    A URL is fetched once; a run that was killed resumes. Failures are not kept, so the next run tries them again.

    Args:
        folder: where pictures are kept.
        rules: how they are fetched.
        pause: waits for some seconds before a retry.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        folder: Path,
        rules: PictureRules | None = None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._rules, self._pause = folder, rules or PictureRules(), pause
        self._buckets = Buckets(self._rules)
        self._outages = Outages(max(_FEWEST_FAILURES, 4 * self._rules.parallel), pause, clock)

    def fetch(self, urls: Iterable[str]) -> dict[str, Fetched]:
        """The pictures of these URLs, from the folder or the network.

        Raises:
            ContractError: a file with a header's value cannot be read.
            DataError: the credentials of an object store have expired; what was fetched before is kept.
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
        with (
            PictureRequests(self._rules) as requests,
            ThreadPoolExecutor(max(1, self._rules.parallel)) as threads,
        ):
            running: dict[Future[Fetched], str] = {}
            fetched: dict[str, Fetched] = {}
            left, most = iter(urls), max(1, self._rules.parallel) * _AHEAD
            while True:
                for url in islice(left, most - len(running)):
                    running[threads.submit(self._one, requests, url)] = url
                if len(fetched) >= _NOTED_AT_ONCE or not running:
                    yield fetched
                    fetched = {}
                if not running:
                    return
                for each in wait(running, return_when=FIRST_COMPLETED).done:
                    if error := each.exception():
                        threads.shutdown(cancel_futures=True)
                        yield fetched
                        raise error
                    fetched[running.pop(each)] = each.result()

    def _one(self, requests: PictureRequests, url: str) -> Fetched:
        host = url.split("/", 3)[2].rpartition("@")[2]
        for attempt in range(1, self._rules.tries + 1):
            if not self._outages.may_ask(host):
                return Fetched(None, f"{host} has not answered for minutes")
            try:
                content = self._buckets.read(url) if is_object(url) else requests.read(url)
                self._outages.answered(host)
            except RequestFailedError as failed:
                (self._outages.failed if failed.is_outage else self._outages.answered)(host)
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
