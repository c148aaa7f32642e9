"""A small Kubernetes API server over real HTTP: objects, lists, watches, pod logs, and errors on demand.

It has no controllers; tests play them with `put`.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = re.compile(
    r"^/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>log|status))?$"
)
REASONS = {403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 410: "Expired", 429: "TooManyRequests"}
CUT = "cut"


@dataclass(frozen=True)
class Call:
    """One request, as RBAC sees it."""

    verb: str
    group: str
    resource: str  # "pods/log" for a subresource
    namespace: str
    name: str


@dataclass
class Fault:
    """An error that is answered `times` times."""

    verb: str
    resource: str
    status: int | str  # or CUT: the connection ends in the middle of the answer
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""  # only for the object with this name


class FakeApi:
    """The objects, and the calls that were made."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}  # (resource, namespace, name)
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []  # (version, type, resource, object)
        self.version = 100
        self.logs: dict[str, list[str]] = {}
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.bodies: list[tuple[Call, Any]] = []
        self.on_create: Callable[[str, dict[str, Any]], None] = lambda resource, body: None
        self.allowed: Callable[[dict[str, Any]], bool] = lambda attributes: True
        self.kinds: dict[str, tuple[str, ...]] = {}  # "group/version": plurals, as discovery lists them
        self.kubernetes = "v1.33.0"
        self.url = ""

    def put(self, resource: str, body: dict[str, Any]) -> None:
        """Add or replace an object, as a controller would."""
        with self.changed:
            body = copy.deepcopy(body)
            metadata = body["metadata"]
            key = (resource, metadata.get("namespace", ""), metadata["name"])
            self.version += 1
            metadata["resourceVersion"] = str(self.version)
            event = "MODIFIED" if key in self.objects else "ADDED"
            self.objects[key] = body
            self.history.append((self.version, event, resource, copy.deepcopy(body)))
            self.changed.notify_all()

    def change(self, resource: str, namespace: str, name: str, **parts: Any) -> None:
        """Replace top-level parts (`status=…`) of an object."""
        body = copy.deepcopy(self.objects[resource, namespace, name])
        self.put(resource, body | parts)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        with self.changed:
            gone = self.objects.pop((resource, namespace, name))
            self.version += 1
            self.history.append((self.version, "DELETED", resource, gone))
            self.changed.notify_all()

    def wait_for(self, question: Callable[[], bool], timeout_s: float = 10) -> None:
        """Wait until a call or a change makes the condition true."""
        with self.changed:
            assert self.changed.wait_for(question, timeout_s), "the condition did not become true in time"

    def count(self, verb: str, resource: str) -> int:
        return sum(call.verb == verb and call.resource == resource for call in self.calls)

    def fault_for(self, call: Call) -> Fault | None:
        with self.changed:
            for fault in self.faults:
                same = (fault.verb, fault.resource) == (call.verb, call.resource)
                if same and fault.name in ("", call.name) and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise every answer waits for the acknowledgement of its headers
    wbufsize = -1
    fake: FakeApi

    def log_message(self, *arguments: Any) -> None:
        return

    def do_GET(self) -> None:
        self._serve("get")

    def do_POST(self) -> None:
        self._serve("create")

    def do_PATCH(self) -> None:
        self._serve("patch")

    def do_PUT(self) -> None:
        self._serve("update")

    def do_DELETE(self) -> None:
        self._serve("delete")

    def _serve(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/version":
            return self._json(200, {"gitVersion": self.fake.kubernetes})
        if (served := parts.path.removeprefix("/apis/")) in self.fake.kinds:
            return self._json(200, {"resources": [{"name": name} for name in self.fake.kinds[served]]})
        matched = PATH.match(parts.path)
        if matched is None:
            return self._status(404)
        found = {name: value or "" for name, value in matched.groupdict().items()}
        if verb == "get" and query.get("watch") in ("true", "True"):
            verb = "watch"
        elif verb == "get" and not found["name"]:
            verb = "list"
        resource = "/".join(filter(None, [found["resource"], found["sub"]]))
        call = Call(verb, found["group"], resource, found["namespace"], found["name"])
        with self.fake.changed:
            self.fake.calls.append(call)
            self.fake.bodies.append((call, body))
            self.fake.changed.notify_all()
        if fault := self.fake.fault_for(call):
            if fault.status == CUT:
                return self._cut()
            assert isinstance(fault.status, int)
            return self._status(fault.status, fault.headers)
        self._answer(call, query, body)

    def _answer(self, call: Call, query: dict[str, str], body: Any) -> None:
        fake, key = self.fake, (call.resource, call.namespace, call.name)
        if call.verb == "create" and call.resource == "selfsubjectaccessreviews":
            allowed = fake.allowed(body["spec"]["resourceAttributes"])
            return self._json(201, body | {"status": {"allowed": allowed}})
        if call.verb == "create":
            name = body["metadata"]["name"]
            if (call.resource, call.namespace, name) in fake.objects:
                return self._status(409)
            body["metadata"].setdefault("namespace", call.namespace)
            fake.put(call.resource, body)
            fake.on_create(call.resource, body)
            return self._json(201, fake.objects.get((call.resource, call.namespace, name), body))
        if call.verb == "list":
            items = [one for one in self._of(call.resource, call.namespace) if _selected(one, query)]
            return self._json(200, {"metadata": {"resourceVersion": str(fake.version)}, "items": items})
        if call.verb == "watch":
            return self._watch(call, query)
        if call.resource == "pods/log":
            return self._log(call, query)
        if key not in fake.objects:
            return self._status(404)
        if call.verb == "delete":
            fake.remove(*key)
            return self._json(200, {"kind": "Status", "status": "Success"})
        if call.verb == "patch":
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            fake.put(call.resource, _merged(fake.objects[key], body))
        return self._json(200, fake.objects[key])

    def _of(self, resource: str, namespace: str) -> list[dict[str, Any]]:
        with self.fake.changed:
            found = sorted(self.fake.objects.items())
            return [one for (kind, where, _), one in found if kind == resource and where == namespace]

    def _watch(self, call: Call, query: dict[str, str]) -> None:
        since, timeout_s = int(query.get("resourceVersion", "0")), float(query.get("timeoutSeconds", "5"))
        self._begin_chunks()

        def news() -> list[tuple[int, str, dict[str, Any]]]:
            return [
                (version, kind, one)
                for version, kind, resource, one in self.fake.history
                if version > since and resource == call.resource and _selected(one, query)
            ]

        with self.fake.changed:
            self.fake.changed.wait_for(lambda: bool(news()), timeout_s)
            found = news()
        for _, kind, one in found:
            self._chunk(json.dumps({"type": kind, "object": one}).encode() + b"\n")
        self._chunk(b"")

    def _log(self, call: Call, query: dict[str, str]) -> None:
        if ("pods", call.namespace, call.name) not in self.fake.objects:
            return self._status(404)
        lines = self.fake.logs.get(call.name, [])
        lines = lines[-int(query.get("tailLines", len(lines) or 1)) :]
        if query.get("timestamps") in ("true", "True"):
            lines = [f"2026-01-01T00:00:{number:02d}.000000000Z {line}" for number, line in enumerate(lines)]
        content = "".join(line + "\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _begin_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _cut(self) -> None:
        self._begin_chunks()
        self.wfile.write(b'40\r\n{"type": "MODIF')  # 64 bytes were promised
        self.wfile.flush()
        self.close_connection = True

    def _status(self, code: int, headers: dict[str, str] | None = None) -> None:
        status = {"kind": "Status", "code": code, "reason": REASONS.get(code, "InternalError")}
        self._json(code, status | {"status": "Failure", "message": f"fake says {code}"}, headers)

    def _json(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _selected(one: dict[str, Any], query: dict[str, str]) -> bool:
    labels = one["metadata"].get("labels", {})
    for part in filter(None, query.get("labelSelector", "").split(",")):
        name, _, value = part.partition("=")
        if labels.get(name) != value:
            return False
    field, _, wanted = query.get("fieldSelector", "").partition("=")
    value: Any = one
    for part in field.split(".") if wanted else []:
        value = value.get(part, {})
    return not wanted or value == wanted


def _merged(there: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(there) if isinstance(there, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def kserve_starts(fake: FakeApi, service: dict[str, Any]) -> None:
    """What KServe does for an InferenceService: a pod with its annotations, and then the status.

    As in KServe 0.20, `observedGeneration` is the Deployment's.
    """
    metadata = service["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    pod = {
        "name": f"{name}-predictor-{metadata['annotations']['immr.dev/content']}",
        "namespace": namespace,
        "labels": {"serving.kserve.io/inferenceservice": name},
        "annotations": metadata["annotations"],
    }
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    fake.put("pods", {"metadata": pod, "status": {"phase": "Running"} | ready})
    fake.change("inferenceservices", namespace, name, status=ready | {"observedGeneration": 1})


@contextmanager
def serving(fake: Any = None) -> Iterator[Any]:
    """The server on a free port, in threads; `fake` may be a subclass of `FakeApi`."""
    fake = fake or FakeApi()
    handler = type("BoundHandler", (Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


def client_of(fake: FakeApi) -> Any:
    """The real client, pointed at the fake."""
    from kubernetes import client

    configuration = client.Configuration()
    configuration.host = fake.url
    configuration.retries = False
    return client.ApiClient(configuration)
