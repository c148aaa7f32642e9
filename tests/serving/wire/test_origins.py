"""Calls from pages of other origins, and the methods HEAD and OPTIONS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from immr.errors import SettingsError
from immr.experiment.file import save
from immr.settings import Settings
from serving.process.options import ServingOptions
from serving.wire.origins import cors
from tests.support import http_client
from tests.support.in_process import served_gateway
from tests.support.shopper import RED, alone, assert_problem, click, rows

SHOP = "https://shop.example"
PREFLIGHT = {
    "origin": SHOP,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}


@pytest.fixture(scope="module")
def gateway(bento_url: str, settings: Settings) -> Iterator[httpx.Client]:
    save(alone(bento_url), settings.experiment_file)
    with served_gateway(
        settings, options=ServingOptions(cors_origins=f"{SHOP}, http://localhost:5173")
    ) as client:
        yield client


def test_a_page_of_a_listed_origin_may_search(gateway: httpx.Client) -> None:
    preflight = gateway.options("/v1/search", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SHOP
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = gateway.post("/v1/search", files={"image": RED}, headers={"origin": SHOP})
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-credentials" not in answer.headers
    refused = gateway.post("/v1/search", files={"image": b""}, headers={"origin": SHOP})
    assert refused.status_code == 422 and refused.headers["access-control-allow-origin"] == SHOP


def test_a_page_of_another_origin_may_not(gateway: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    other = {**PREFLIGHT, "origin": "https://other.example"}
    for _ in range(2):
        preflight = gateway.options("/v1/search", headers=other)
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers
    assert caplog.text.count("a page of https://other.example calls") == 1
    assert f"IMMR_CORS_ORIGINS={SHOP},http://localhost:5173,https://other.example" in caplog.text


def test_pages_that_may_call_and_made_up_origins_are_not_logged(
    bento_url: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    save(alone(bento_url), settings.experiment_file)
    with served_gateway(settings) as client:
        for origin in ("null", "https://x.example y", str(client.base_url)):
            client.options("/v1/search", headers={**PREFLIGHT, "origin": origin})
        assert "IMMR_CORS_ORIGINS" not in caplog.text
        for number in range(30):
            client.options("/v1/search", headers={**PREFLIGHT, "origin": f"https://{number}.example"})
        assert caplog.text.count("to allow it, start with IMMR_CORS_ORIGINS=https://") == 20
    caplog.clear()
    with served_gateway(settings, options=ServingOptions(cors_origins="*")) as client:
        client.options("/v1/search", headers=PREFLIGHT)
    assert "IMMR_CORS_ORIGINS" not in caplog.text


def test_a_preflight_needs_no_key(bento_url: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{'0' * 64} shop")
    options = ServingOptions(cors_origins="*", bearer_keys_file=tmp_path / "keys")
    with served_gateway(settings, options=options) as client:
        assert client.options("/v1/search", headers=PREFLIGHT).headers["access-control-allow-origin"] == "*"
        answer = client.post("/v1/search", files={"image": RED}, headers={"origin": SHOP})
        assert_problem(answer, 401)
        assert answer.headers["access-control-allow-origin"] == "*"


def test_a_beacon_reports_a_click(gateway: httpx.Client, settings: Settings) -> None:
    body = gateway.post("/v1/search", files={"image": RED}).json()
    rows(settings, body["query_id"])
    event = httpx.Request("POST", "http://x", json={"events": [click(body["hits"][0]["click_token"])]})
    sent = gateway.post(
        "/v1/events", content=event.read(), headers={"content-type": "text/plain;charset=UTF-8"}
    )
    assert (sent.status_code, sent.json()["accepted"]) == (200, 1)


def test_an_origin_is_compared_as_browsers_send_it() -> None:
    """Written otherwise, it never matched, and a slash at the end kept versions from starting."""
    middleware = cors(
        "https://Shop.example/, HTTPS://b.example:443, http://c.example:80, http://c.example:8080, *"
    )
    assert middleware.kwargs["allow_origins"] == [
        SHOP,
        "https://b.example",
        "http://c.example",
        "http://c.example:8080",
        "*",
    ]


@pytest.mark.parametrize(
    "origins", ["shop.example", "https://shop.example/shop", "https://*.example", "null"]
)
def test_what_is_not_an_origin_is_refused(origins: str) -> None:
    with pytest.raises(SettingsError, match="is not an origin"):
        cors(origins)


@pytest.mark.parametrize("service", ["bento", "gateway"])
def test_head_and_options(service: str, bento_url: str, gateway: httpx.Client) -> None:
    url = bento_url if service == "bento" else str(gateway.base_url)
    get, head = http_client.get(f"{url}/health/live"), httpx.head(f"{url}/health/live", trust_env=False)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert httpx.head(f"{url}/v1/items/red/image", trust_env=False).headers["content-type"] == "image/png"
    assert httpx.head(f"{url}/nowhere", trust_env=False).status_code == 404
    for path, allowed in (("/v1/search", "OPTIONS, POST"), ("/v1/items/red/image", "GET, HEAD, OPTIONS")):
        options = httpx.options(f"{url}{path}", trust_env=False)
        assert (options.status_code, options.headers["allow"]) == (204, allowed)
    assert httpx.options(f"{url}/nowhere", trust_env=False).status_code == 404
