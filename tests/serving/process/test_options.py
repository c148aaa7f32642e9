"""What an operator can set: keys for callers, metrics on a port of their own, JSON logs, traces."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from immr.errors import SettingsError
from immr.experiment.definition import CHAMPION, Experiment, Variant, save
from immr.settings import Settings
from serving.gateway.app import Gateway, create_gateway_app
from serving.wire.bearer import BearerKeys
from tests.serving import real_services
from tests.serving.bento.test_app import assert_problem
from tests.support import tiny_version
from tests.support.patience import until
from tests.support.upstream_process import await_port, free_port
from tests.support.version_process import version_process

RED = tiny_version.photo("red")
KEY = "the-key-of-the-shop"


@contextmanager
def gateway(tmp_path: Path, champion: str, **options: str) -> Iterator[tuple[str, Path]]:
    """Its URL, and where what it says goes."""
    settings = Settings(home=tmp_path)
    save(Experiment("test", "salt", (Variant(CHAMPION, champion, "immr-1", 1.0),)), settings.experiment_file)
    port, said = free_port(), tmp_path / "said"
    command = [sys.executable, "-m", "serving.gateway", f"--port={port}"]
    with said.open("w") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **settings.environment(), **options}, stdout=output, stderr=output
        )
        try:
            await_port(process, port)
            yield f"http://127.0.0.1:{port}", said
        finally:
            process.terminate()
            process.wait(timeout=20)


def search(url: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/search", files={"image": RED}, headers=headers, timeout=10)


def keys_file(folder: Path, *keys: str) -> Path:
    path = folder / "keys"
    path.write_text("# ours\n" + "".join(f"{sha256(key.encode()).hexdigest()} the shop\n" for key in keys))
    return path


def test_with_a_file_of_keys_every_caller_needs_one(home: Path, tmp_path: Path) -> None:
    option = {"IMMR_BEARER_KEYS_FILE": str(keys_file(tmp_path, KEY))}
    bento_environment = {**os.environ, **Settings(home=home).environment(), **option}
    with (
        version_process(home / "immr-1", bento_environment) as bento,
        gateway(tmp_path, bento, **option) as (url, said),
    ):
        for service in (url, bento):
            refused = search(service)
            assert_problem(refused, 401, "Authorization: Bearer")
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert_problem(search(service, authorization="Bearer wrong"), 401)
            assert_problem(httpx.get(service, headers=[(b"authorization", b"Bearer \xff\xfe")]), 401)
            assert_problem(search(service, authorization=f"Basic {KEY}"), 401)
            assert httpx.get(f"{service}/metrics").status_code == 401
            assert httpx.get(f"{service}/health/ready").status_code == 200
            assert search(service, authorization=f"Bearer {KEY}").status_code == 200
        assert httpx.get(f"{bento}/v2/models/immr-1").json()["error"].startswith("This service needs a key")
        told = httpx.get(f"{url}/openapi.json", headers={"authorization": f"Bearer {KEY}"}).json()
        assert told["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}
        assert told["security"] == [{"bearer": []}]
        for path, operations in told["paths"].items():
            for operation in operations.values():
                is_open = path.startswith("/health/")
                assert ("401" not in operation["responses"]) == is_open == (operation.get("security") == [])
        hit = search(url, authorization=f"bearer {KEY}").json()["hits"][0]
        picture = httpx.get(url + hit["image_url"], headers={"authorization": f"Bearer {KEY}"})
        assert picture.status_code == 200
    assert KEY not in said.read_text()


def test_without_keys_the_openapi_asks_for_none(tmp_path: Path) -> None:
    gateway = Gateway(Settings(home=tmp_path))
    told = create_gateway_app(gateway).openapi()
    assert "security" not in told and "securitySchemes" not in told["components"]
    assert all("401" not in each["responses"] for path in told["paths"].values() for each in path.values())
    asyncio.run(gateway.recorder.close())


def test_keys_change_without_a_restart_and_a_wrong_file_keeps_them(tmp_path: Path) -> None:
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
def test_a_wrong_file_of_keys_is_explained(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(SettingsError, match="keys") as raised:
        BearerKeys(tmp_path / "keys")
    assert KEY not in str(raised.value)


def test_a_new_key_comes_with_its_line() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "serving.wire.bearer"], capture_output=True, text=True, check=True
    )
    assert made.stderr.startswith(sha256(made.stdout.strip().encode()).hexdigest())


def test_metrics_have_a_port_of_their_own(bento_url: str, tmp_path: Path) -> None:
    port = free_port()
    with gateway(tmp_path, bento_url, IMMR_METRICS_PORT=str(port)) as (url, _):
        search(url)
        assert "immr_requests_total" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert httpx.get(f"{url}/metrics").status_code == 404


def test_json_logs_name_each_search_and_no_secret(bento_url: str, tmp_path: Path) -> None:
    with gateway(tmp_path, bento_url, IMMR_LOG_FORMAT="json") as (url, said):
        body = search(url, cookie="immr_user=secret-cookie", authorization="Bearer secret-key").json()
        httpx.post(f"{url}/v1/events", json={"events": [{"type": "click", "click_token": "secret", "ts": 0}]})
    lines = [json.loads(line) for line in said.read_text().splitlines()]
    [line] = [line for line in lines if line.get("query_id") == body["query_id"]]
    assert (line["level"], line["variant"], line["model_version"]) == ("info", "champion", "immr-1")
    assert line["hits"] == 5 and line["took_ms"] > 0 and line["fallback"] is False
    text = said.read_text()
    key = (tmp_path / "events" / "token.key").read_text().strip()
    for secret in ("secret-", key, body["hits"][0]["click_token"]):
        assert secret not in text


def test_traces_are_off_until_the_environment_asks(bento_url: str, tmp_path: Path) -> None:
    with gateway(tmp_path / "off", bento_url) as (url, said):
        search(url)
    assert "trace_id" not in said.read_text()
    told = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with gateway(tmp_path / "on", bento_url, **told) as (url, said):
        body = search(url).json()
        until(lambda: body["query_id"] in said.read_text(), told=said.read_text)
        text = said.read_text()
    assert '"immr.model_version": "immr-1"' in text and "SpanKind.CLIENT" in text


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
        gateway(tmp_path, bento_url) as (url, said),
    ):
        assert search(url).status_code == 200
        until(lambda: _traces(said) & _traces(bento.log_file), told=bento.log_file.read_text)
    assert len(_traces(said) & _traces(bento.log_file)) == 1


def _traces(log_file: Path) -> set[str]:
    return set(re.findall(r'"trace_id": "(0x[0-9a-f]+)"', log_file.read_text()))


def test_an_exporter_that_is_not_installed_is_explained(bento_url: str, tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="ended with 1"),
        gateway(tmp_path, bento_url, OTEL_TRACES_EXPORTER="smoke-signals"),
    ):
        pass
    assert "OTEL_TRACES_EXPORTER=smoke-signals" in (tmp_path / "said").read_text()
