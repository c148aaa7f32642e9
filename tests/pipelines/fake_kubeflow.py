"""A small Kubeflow Pipelines server over real HTTP that keeps what a client sends.

It behaves as version 2.17 does where IMMR depends on it: the first upload of a pipeline also makes a version
with the pipeline's name, names are unique, and lists come in pages.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.stand_in_server import JsonHandler

API = "/apis/v2beta1"
NUMBERED = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}


@dataclass
class Kept:
    """The server's content."""

    pipelines: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurringruns: list[dict[str, Any]] = field(default_factory=list)
    uploads: int = 0
    authorizations: set[str] = field(default_factory=set)
    page_size: int = 100
    profiles: bool = False
    """Who uploads without a namespace is refused, like a user of a profile."""
    lose_answers: bool = False
    """Runs are created, but the client gets an error."""
    url: str = ""

    def version_names(self, pipeline: str) -> list[str]:
        return [one["display_name"] for one in self.versions if one["pipeline_id"] == pipeline]

    def runs_of(self, query: dict[str, str]) -> list[dict[str, Any]]:
        """Runs of an experiment with the filter's name, newest first."""
        predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
        assert all((one["operation"], one["key"]) == ("EQUALS", "display_name") for one in predicates)
        names = {one["stringValue"] for one in predicates}
        of = [one for one in self.runs if one["experiment_id"] == query["experiment_id"]]
        return [one for one in reversed(of) if not names or one["display_name"] in names]

    def add_version(self, pipeline: str, name: str) -> dict[str, Any]:
        made = {
            "pipeline_id": pipeline,
            "pipeline_version_id": f"{pipeline}-version-{name}",
            "display_name": name,
        }
        self.versions.append(made)
        return made


class Handler(JsonHandler):
    protocol_version = "HTTP/1.1"
    kept: Kept

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:
            self.kept.authorizations.add(self.headers.get("Authorization", ""))
        return parsed

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == f"{API}/healthz":
            return self.answer({"multi_user": self.kept.profiles})
        if parts.path == f"{API}/pipelines":
            wanted = json.loads(query["filter"])["predicates"][0]["stringValue"]
            here = (wanted, query.get("namespace", ""))
            of = [
                one for one in self.kept.pipelines if (one["display_name"], one.get("namespace", "")) == here
            ]
            return self.answer({"pipelines": of})
        if parts.path.endswith("/versions"):
            of = [one for one in self.kept.versions if one["pipeline_id"] == parts.path.split("/")[-2]]
            start = int(query.get("page_token") or 0)
            end = start + min(int(query["page_size"]), self.kept.page_size)
            rest = {"next_page_token": str(end)} if end < len(of) else {}
            return self.answer({"pipeline_versions": of[start:end], **rest})
        if parts.path == f"{API}/experiments":
            return self.answer({"experiments": self.kept.experiments})
        if parts.path == f"{API}/runs":
            return self.answer({"runs": self.kept.runs_of(query)})
        return self.answer({"error": parts.path}, 404)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        content = self.rfile.read(int(self.headers["Content-Length"]))
        kind = parts.path.removeprefix(f"{API}/")
        if kind == "pipelines/upload":
            namespace = query.get("namespace", "")
            if self.kept.profiles and not namespace:
                return self.answer({"error": "shared pipeline upload denied"}, 400)
            self.kept.uploads += 1
            id = "-in-".join(filter(None, [query["name"], namespace]))
            made = {"pipeline_id": id, "display_name": query["name"], "namespace": namespace}
            self.kept.pipelines.append(made)
            self.kept.add_version(id, query["name"])
        elif kind == "pipelines/upload_version":
            self.kept.uploads += 1
            assert (
                query["pipelineid"].partition("-in-")[0].encode() in content
            )  # an id begins with the name here
            if query["name"] in self.kept.version_names(query["pipelineid"]):
                return self.answer({"error": "the name already exists"}, 409)
            made = self.kept.add_version(query["pipelineid"], query["name"])
        else:
            there = getattr(self.kept, kind)
            made = json.loads(content) | {NUMBERED[kind]: f"{kind}-{len(there) + 1}"}
            there.append(made)
            if kind == "runs":
                made["state"] = "PENDING"
                if self.kept.lose_answers:
                    return self.answer({"error": "the database was slow"}, 504)
        return self.answer(made)

    def do_DELETE(self) -> None:
        *_, pipeline, _, version = urlsplit(self.path).path.split("/")
        left = [
            one
            for one in self.kept.versions
            if (one["pipeline_id"], one["pipeline_version_id"]) != (pipeline, version)
        ]
        gone = len(left) < len(self.kept.versions)
        self.kept.versions = left
        return self.answer({}, 200 if gone else 404)


@contextmanager
def serving() -> Iterator[Kept]:
    """The server on a free port, in threads."""
    kept = Kept()
    handler = type("BoundHandler", (Handler,), {"kept": kept})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
