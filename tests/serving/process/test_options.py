"""What an operator can configure: keys, a metrics port, JSON logs, traces."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from immr.errors import SettingsError
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.app import create_gateway_app, serve_gateway
from serving.gateway.split import Gateway
from serving.process import logs, tracing
from serving.process.options import ServingOptions
from serving.wire import bearer
from serving.wire.bearer import BearerKeys
from tests.support import http_client, real_services, tiny_version
from tests.support.in_process import ready_version, served_gateway
from tests.support.patience import until
from tests.support.shopper import RED, alone, assert_problem
from tests.support.upstream_process import await_port, free_port

KEY = "the-key-of-the-shop"


@contextmanager
def gateway_process(home: Path, champion: str, **options: str) -> Iterator[tuple[str, Path]]:
    """A gateway's URL, and the file with its output."""
    settings = Settings(home=home)
    save(alone(champion), settings.experiment_file)
    port, output = free_port(), home / "output"
    command = [sys.executable, "-m", "serving.gateway", f"--port={port}"]
    with output.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **settings.environment(), **options}, stdout=file, stderr=file
        )
        try:
            await_port(process, port)
            yield f"http://127.0.0.1:{port}", output
        finally:
            process.terminate()
            process.wait(timeout=20)


def search(url: str, **headers: str) -> httpx.Response:
    return http_client.post(f"{url}/v1/search", files={"image": RED}, headers=headers)


def keys_file(folder: Path, *keys: str) -> Path:
    path = folder / "keys"
    path.write_text("# ours\n" + "".join(f"{sha256(key.encode()).hexdigest()} the shop\n" for key in keys))
    return path


@dataclass
class Operated:
    """A gateway process with every option set."""

    url: str
    metrics_url: str
    output: Path
    home: Path


@pytest.fixture(scope="module")
def operated(bento_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    home, port = tmp_path_factory.mktemp("operated"), free_port()
    options = {
        "IMMR_METRICS_HOST": "127.0.0.1",
        "IMMR_METRICS_PORT": str(port),
        "IMMR_LOG_FORMAT": "json",
        "IMMR_BEARER_KEYS_FILE": str(keys_file(home, KEY)),
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with gateway_process(home, bento_url, **options) as (url, output):
        yield Operated(url, f"http://127.0.0.1:{port}", output, home)


def test_metrics_can_have_a_port_of_their_own(operated: Operated) -> None:
    search(operated.url, authorization=f"Bearer {KEY}")
    assert "immr_requests_total" in http_client.get(f"{operated.metrics_url}/metrics").text
    beside_the_api = http_client.get(f"{operated.url}/metrics", headers={"authorization": f"Bearer {KEY}"})
    assert beside_the_api.status_code == 404


def test_json_logs_have_a_line_for_each_search_and_no_secret(operated: Operated) -> None:
    body = search(operated.url, cookie="immr_user=secret-cookie", authorization=f"Bearer {KEY}").json()
    search(operated.url, authorization="Bearer secret-key")
    event = {"type": "click", "click_token": "secret", "ts": 0}
    http_client.post(
        f"{operated.url}/v1/events", json={"events": [event]}, headers={"authorization": f"Bearer {KEY}"}
    )
    text = operated.output.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"ts"')]
    [line] = [line for line in lines if line.get("query_id") == body["query_id"]]
    assert (line["level"], line["variant"], line["model_version"]) == ("info", "champion", "immr-1")
    assert line["hits"] == 5 and line["took_ms"] > 0 and line["fallback"] is False
    token_key = (operated.home / "events" / "token.key").read_text().strip()
    for secret in ("secret-", KEY, token_key, body["hits"][0]["click_token"]):
        assert secret not in text


def test_traces_have_a_span_of_the_gateway_and_one_of_its_client(operated: Operated) -> None:
    body = search(operated.url, authorization=f"Bearer {KEY}").json()
    of_query = f'"immr.query_id": "{body["query_id"]}"'
    until(lambda: of_query in operated.output.read_text(), context=operated.output.read_text)
    text = operated.output.read_text()
    assert '"immr.model_version": "immr-1"' in text and "SpanKind.CLIENT" in text


def test_traces_are_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tracing.EXPORTER, raising=False)
    tracing.trace(app := FastAPI(), "immr")
    assert app.user_middleware == [] and tracing.of_client() is None


def test_a_gateway_refuses_an_unknown_exporter(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (own_settings.environment() | {tracing.EXPORTER: "smoke-signals"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logs, "configure", lambda log_format: None)  # it would replace pytest's handlers
    with pytest.raises(SettingsError, match="OTEL_TRACES_EXPORTER=smoke-signals: no such exporter"):
        serve_gateway("127.0.0.1", free_port())


def test_an_invalid_option_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMR_METRICS_PORT", "high")
    with pytest.raises(SettingsError, match="IMMR_METRICS_PORT='high'"):
        ServingOptions()


def test_with_a_file_of_keys_every_caller_needs_one(free_home: Path, tmp_path: Path) -> None:
    options = ServingOptions(bearer_keys_file=keys_file(tmp_path, KEY))
    settings = Settings(home=tmp_path)
    with ready_version(Settings(home=free_home), free_home / "immr-1", options) as bento:
        save(alone(bento), settings.experiment_file)
        with served_gateway(settings, options=options) as client:
            url = str(client.base_url).rstrip("/")
            for service in (url, bento):
                assert_needs_a_key(service)
            assert (
                http_client.get(f"{bento}/v2/models/immr-1")
                .json()["error"]
                .startswith("This service needs a key")
            )
            documented = http_client.get(
                f"{url}/openapi.json", headers={"authorization": f"Bearer {KEY}"}
            ).json()
            assert documented["components"]["securitySchemes"] == {
                "bearer": {"type": "http", "scheme": "bearer"}
            }
            assert documented["security"] == [{"bearer": []}]
            for path, operations in documented["paths"].items():
                for operation in operations.values():
                    is_public = path.startswith("/health/")
                    assert ("401" not in operation["responses"]) == is_public
                    assert is_public == (operation.get("security") == [])
            hit = search(url, authorization=f"bearer {KEY}").json()["hits"][0]
            picture = http_client.get(url + hit["image_url"], headers={"authorization": f"Bearer {KEY}"})
            assert picture.status_code == 200


def assert_needs_a_key(service: str) -> None:
    refused = search(service)
    assert_problem(refused, 401, "Authorization: Bearer")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert_problem(search(service, authorization="Bearer wrong"), 401, "does not know the key")
    assert_problem(http_client.get(service, headers=[(b"authorization", b"Bearer \xff\xfe")]), 401)
    assert_problem(search(service, authorization=f"Basic {KEY}"), 401)
    assert http_client.get(f"{service}/metrics").status_code == 401
    assert http_client.get(f"{service}/health/ready").status_code == 200
    assert search(service, authorization=f"Bearer {KEY}").status_code == 200


def test_without_keys_the_openapi_requires_none(tmp_path: Path) -> None:
    gateway = Gateway(connect(Settings(home=tmp_path)))
    documented = create_gateway_app(gateway).openapi()
    assert "security" not in documented and "securitySchemes" not in documented["components"]
    operations = [each for path in documented["paths"].values() for each in path.values()]
    assert all("401" not in each["responses"] for each in operations)
    asyncio.run(gateway.recorder.close())


def test_keys_are_reloaded_and_an_invalid_file_keeps_the_previous_ones(tmp_path: Path) -> None:
    path = keys_file(tmp_path, KEY)
    keys = BearerKeys(path)
    assert keys.knows(KEY) and not keys.knows("other") and not keys.knows("")
    keys_file(tmp_path, "other", "third")
    assert keys.knows("other") and keys.knows("third") and not keys.knows(KEY)
    path.write_text("not a hash\n")
    assert keys.knows("other")
    path.write_bytes(b"\xff\xfe\n")
    assert keys.knows("other")
    path.unlink()
    assert keys.knows("other")


@pytest.mark.parametrize("content", [b"", b"# none\n", b"nonsense\n", b"\xff\xfe", KEY.encode() + b"\n"])
def test_an_invalid_file_of_keys_is_an_error_without_the_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError, match="keys") as raised:
        BearerKeys(tmp_path / "keys")
    assert KEY not in str(raised.value)


def test_a_new_key_is_printed_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    bearer.main()
    printed = capsys.readouterr()
    assert printed.err.startswith(sha256(printed.out.strip().encode()).hexdigest())


@pytest.mark.slow
def test_a_search_is_one_trace_through_gateway_and_bento(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    settings = Settings(home=tmp_path)
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(tmp_path / "pictures"))
    with (
        real_services.bento(settings, folder, free_port()) as (bento, bento_url),
        gateway_process(tmp_path, bento_url) as (url, output),
    ):
        assert search(url).status_code == 200
        until(lambda: _traces(output) & _traces(bento.log_file), context=bento.log_file.read_text)
    assert len(_traces(output) & _traces(bento.log_file)) == 1


def _traces(log_file: Path) -> set[str]:
    return set(re.findall(r'"trace_id": "(0x[0-9a-f]+)"', log_file.read_text()))
