"""Stand-ins for versions: they answer over HTTP as a Bento does, and cost next to nothing."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from immr.deploy.deployer import Deployment
from immr.events.query_ids import new_query_id
from immr.events.tokens import Signer
from immr.index.vector_index import Content
from serving.wire.schemas import USER_KEY_HEADER, VARIANT_HEADER

HITS = 10
PHOTO = b"\xff\xd8\xff\xe0 not a picture: the stand-ins do not look at it"
CTRS = (0.1, 0.1, 0.3, 0.6, 0.01)


@contextmanager
def stand_in(
    version: str, key: bytes, slower_s: float = 0.0, fails: bool = False, port: int = 0
) -> Iterator[str]:
    """A version that answers every search with ten hits, after 20 ms plus its extra latency; or fails."""

    class Version(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({"ready": True, "model_version": version})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(0.02 + slower_s)
            if fails:
                self.send_error(500)
                return
            query_id = new_query_id(self.headers.get(USER_KEY_HEADER, ""))
            variant = self.headers.get(VARIANT_HEADER, "direct")
            signer = Signer(key, query_id, variant, version, datetime.now(UTC))
            hits = [_hit(place, signer.sign(f"item-{place}", place)) for place in range(1, HITS + 1)]
            body = {"query_id": query_id, "variant": variant, "model_version": version, "hits": hits}
            self._answer(body | {"degraded": [], "took_ms": 20.0})

        def _answer(self, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Version) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _hit(place: int, token: str) -> dict[str, object]:
    return {
        "item_id": f"item-{place}",
        "position": place,
        "score": 1 / place,
        "score_parts": {"cosine": 1 / place},
        "title": f"Item {place}",
        "category": "Things",
        "image_url": f"/v1/items/item-{place}/image",
        "features": None,
        "click_token": token,
    }


class EveryCollection:
    """An index in which every version has a finished collection."""

    def content(self, version_id: str) -> Content:
        """A collection."""
        return Content(version_id, 0)


class StandIns:
    """In place of `BentoSupervisor`: a stand-in for every deployed version."""

    def __init__(self, key: bytes, dice: random.Random) -> None:
        self._key, self._dice = key, dice
        self._lock = threading.Lock()
        self._kept: dict[
            str, tuple[ExitStack, str, bool]
        ] = {}  # by version: how to stop it, its URL, if it runs
        self.ctr: dict[str, float] = {}

    def sync(
        self, wanted: Mapping[str, Deployment], contents: Mapping[str, str] | None = None
    ) -> dict[str, Deployment]:
        """See `BentoSupervisor.sync`."""
        with self._lock:
            versions = {each.version_id for each in wanted.values()}
            for gone in set(self._kept) - versions:
                self._kept.pop(gone)[0].close()
            for version in versions:
                if version not in self._kept or not self._kept[version][2]:
                    self._start(version)
            return {
                place: replace(each, url=self._kept[each.version_id][1]) for place, each in wanted.items()
            }

    def kill(self, spare: str) -> None:
        """End one version other than `spare`; the next `sync` starts it again."""
        with self._lock:
            running = [version for version, (_, _, runs) in self._kept.items() if runs and version != spare]
            if running:
                version = self._dice.choice(running)
                stack, url, _ = self._kept[version]
                stack.close()
                self._kept[version] = (ExitStack(), url, False)

    def serves(self, version: str) -> bool:
        """Whether the version is kept running; it may have been killed a moment ago."""
        with self._lock:
            return version in self._kept

    def stop(self) -> None:
        """End all versions."""
        with self._lock:
            while self._kept:
                self._kept.popitem()[1][0].close()

    def _start(self, version: str) -> None:
        number = int(version.rpartition("-")[2])
        self.ctr.setdefault(version, CTRS[number % len(CTRS)])
        before = self._kept.get(version)
        stack = ExitStack()
        port = int(before[1].rpartition(":")[2]) if before else 0
        url = stack.enter_context(stand_in(version, self._key, fails=number % 7 == 6, port=port))
        self._kept[version] = (stack, url, True)


def free_port() -> int:
    """A port where nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
