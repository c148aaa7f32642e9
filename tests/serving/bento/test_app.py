"""The Bento's HTTP API: what a shopper gets, and what invalid requests get."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from immr.events import tokens
from immr.index.qdrant import QdrantIndex
from immr.model import runtime
from immr.settings import Settings
from immr.wiring import connect
from serving.bento import version
from serving.process.logs import SEARCHES
from tests.support import http_client, tiny_version
from tests.support.in_process import served_version, wait_ready
from tests.support.patience import until
from tests.support.shopper import RED, assert_problem, click, rows, rows_now, search


@pytest.fixture(scope="module")
def client(bento_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=bento_url, timeout=10) as client:
        yield client


def test_a_photo_finds_its_item_and_is_recorded(client: httpx.Client, settings: Settings) -> None:
    answer = search(client, k="3", user_id="ann")
    assert answer.status_code == 200
    body = answer.json()
    assert body["variant"] == "direct" and body["model_version"] == "immr-1"
    assert next(hit["item_id"] for hit in body["hits"]) == "red" and len(body["hits"]) == 3
    assert body["degraded"] == ["features"]  # this home has no feature store
    assert body["took_ms"] > 0
    assert "encode;dur=" in answer.headers["server-timing"]
    recorded = rows(settings, body["query_id"])
    assert [(row["item_id"], row["position"]) for row in recorded] == [
        (hit["item_id"], place) for place, hit in enumerate(body["hits"], 1)
    ]
    assert {row["user_id"] for row in recorded} == {"ann"}


def test_ten_hits_are_the_default_and_a_category_filters(client: httpx.Client) -> None:
    assert len(search(client).json()["hits"]) == len(tiny_version.COLOURS)
    assert [hit["item_id"] for hit in search(client, category="Warm").json()["hits"]] == ["red"]


@pytest.mark.parametrize("variant", ["champion", "preview"])
def test_behind_a_gateway_and_in_a_preview_nothing_is_recorded(
    client: httpx.Client, settings: Settings, variant: str
) -> None:
    body = search(client, variant=variant).json()
    assert body["variant"] == variant
    assert rows(settings, search(client).json()["query_id"])  # a later search is recorded
    assert rows_now(settings, body["query_id"]) == []


def test_a_click_counts_once(client: httpx.Client, settings: Settings) -> None:
    body = search(client).json()
    events = {
        "events": [click(body["hits"][1]["click_token"]), click(body["hits"][0]["click_token"], "order")]
    }
    others = {"rejected": [], "waiting": 0}
    assert client.post("/v1/events", json=events).json() == {"accepted": 2, "duplicates": 0, **others}
    assert client.post("/v1/events", json=events).json() == {"accepted": 0, "duplicates": 2, **others}
    recorded = rows(settings, body["query_id"])
    assert [row["clicked"] for row in recorded] == [True, True, False, False, False]
    assert [row["ordered"] for row in recorded] == [True, False, False, False, False]


def test_the_same_event_twice_in_one_request_counts_once(client: httpx.Client) -> None:
    event = click(search(client).json()["hits"][0]["click_token"])
    answer = client.post("/v1/events", json={"events": [event, event]}).json()
    assert answer == {"accepted": 1, "duplicates": 1, "waiting": 0, "rejected": []}


def test_an_invalid_token_does_not_affect_the_valid_ones(client: httpx.Client) -> None:
    good = click(search(client).json()["hits"][0]["click_token"])
    answer = client.post("/v1/events", json={"events": [click("forged.token"), good]})
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [0]


def test_a_request_with_only_invalid_tokens_is_a_422(client: httpx.Client, settings: Settings) -> None:
    key = connect(settings).token_keys[0]
    now = datetime.now(UTC)
    of_search = ("q", "direct", "immr-1")
    too_old = tokens.Signer(key, *of_search, now - timedelta(days=2)).sign("red", 1)
    other_key = tokens.Signer(b"x" * 32, *of_search, now).sign("red", 1)
    preview = search(client, variant="preview").json()["hits"][0]["click_token"]
    bad = [click(token) for token in ("x", "ü.ü", too_old, other_key, preview)]
    problem = assert_problem(client.post("/v1/events", json={"events": bad}), 422, "No event is valid")
    assert [rejected["index"] for rejected in problem["rejected"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "ts", ["2001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_an_event_with_a_wrong_time_is_rejected(client: httpx.Client, ts: str) -> None:
    token = search(client).json()["hits"][0]["click_token"]
    answer = client.post("/v1/events", json={"events": [{"type": "click", "click_token": token, "ts": ts}]})
    assert "send the event's time" in assert_problem(answer, 422)["rejected"][0]["reason"]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "empty"),
        (b"<html><body>not a photo</body></html>", "JPEG, PNG"),
        (RED[:-40], "broken or truncated"),
        (RED[:300], "is broken or truncated"),
        (b"\xff\xd8\xff\xe0" + bytes(2000), ""),
        (b"GIF89a", ""),
    ],
)
def test_an_unreadable_photo_is_explained(client: httpx.Client, image: bytes, words: str) -> None:
    assert_problem(search(client, image), 422, words)
    assert search(client).status_code == 200


def test_a_picture_of_too_many_pixels_is_refused(client: httpx.Client) -> None:
    content = io.BytesIO()
    Image.new("1", (9000, 8000)).save(content, "PNG")
    assert_problem(search(client, content.getvalue()), 422, "send a smaller one")


@pytest.mark.parametrize("k", ["0", "-1", "101", "1000000000", "1e9", "ten", "", "9" * 5000])
def test_k_has_bounds(client: httpx.Client, k: str) -> None:
    if k == "":
        assert search(client, k=k).status_code == 200  # an empty field counts as absent
        return
    problem = assert_problem(search(client, k=k), 422, "k: ")
    assert problem["errors"][0]["field"] == "k"


def test_a_search_without_a_photo_is_explained(client: httpx.Client) -> None:
    answer = client.post("/v1/search", files={"user_id": (None, "ann")})
    assert_problem(answer, 422, "image: Field required")
    assert_problem(client.post("/v1/search", files={"image": (None, "text")}), 422, "not a picture")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json", 400), ("application/pdf", 415), ("", 415), ("multipart/form-data", 400)],
)
def test_a_search_is_a_form(client: httpx.Client, content_type: str, status: int) -> None:
    answer = client.post("/v1/search", content=RED, headers={"content-type": content_type})
    assert_problem(answer, status)


def test_a_broken_form_is_a_problem(client: httpx.Client) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for content in (
        b"nonsense",
        b"--b\r\n\xff\xfe: x\r\n\r\n",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
    ):
        answer = client.post("/v1/search", content=content, headers=headers)
        assert answer.status_code in (400, 422)
        assert_problem(answer, answer.status_code)


def test_a_body_over_the_limit_is_refused(client: httpx.Client, bento_url: str) -> None:
    large = bytes(11 * 1024 * 1024)
    assert_problem(search(client, large), 413, "10 MB")
    boundary = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    streamed = client.post(
        "/v1/search",
        content=iter([boundary, large, b"\r\n--b--\r\n"]),  # chunked, so there is no Content-Length
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert_problem(streamed, 413, "10 MB")
    assert search(client).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b'{"events": [{"type": "click", "click_token": "\xff\xfe", "ts": "x"}]}', 400),
        (b"", 400),
        (b"[]", 422),
        (b"null", 422),
        (b"{}", 422),
        (b'{"events": []}', 422),
        (b'{"events": [{"type": "view", "click_token": "x", "ts": "2024-05-01T00:00:00Z"}]}', 422),
        (b'{"events": [{"type": "click", "click_token": "x", "ts": "soon"}]}', 422),
        (b'{"events": [{"type": "click", "click_token": "x", "ts": NaN}]}', 422),
        (b'{"events": [{"type": "click", "click_token": "x", "ts": 1e999}]}', 422),
        (b'{"events": [{"type": "click", "click_token": "\\ud800", "ts": "2024-05-01T00:00:00Z"}]}', 422),
        (b'{"events": [{"type": "click", "click_token": 5, "ts": "2024-05-01T00:00:00Z"}]}', 422),
        (b"[" * 100_000, 400),
        (b'{"events": ' + b"9" * 5000 + b"}", 400),
    ],
)
def test_invalid_events_are_a_problem(client: httpx.Client, content: bytes, status: int) -> None:
    answer = client.post("/v1/events", content=content, headers={"content-type": "application/json"})
    assert_problem(answer, status)


def test_events_are_json_and_not_too_many(client: httpx.Client) -> None:
    assert_problem(client.post("/v1/events", content=b"x", headers={"content-type": "text/html"}), 415)
    assert_problem(client.post("/v1/events", json={"events": [click("x")] * 1001}), 422, "1000")


def test_a_variant_header_is_a_plain_word(client: httpx.Client) -> None:
    assert_problem(search(client, variant="a b"), 422, "x-immr-variant")


@pytest.mark.parametrize("text", ["ü" * 200, "a\x00b", "'; DROP TABLE searches; --", "\\ud800", "..%2f"])
def test_any_text_is_accepted_as_user_and_category(client: httpx.Client, text: str) -> None:
    assert search(client, user_id=text, category=text).status_code == 200


def test_invalid_utf8_is_not_a_500(client: httpx.Client) -> None:
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="user_id"\r\n\r\n\xff\xfe\r\n',
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="\xff.jpg"\r\n\r\n' + RED + b"\r\n",
        b"--b--\r\n",
    ]
    answer = client.post(
        "/v1/search", content=b"".join(parts), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code in (200, 400, 422)


def test_every_hit_has_its_picture(client: httpx.Client) -> None:
    for hit in search(client).json()["hits"]:
        picture = client.get(hit["image_url"])
        assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"
        assert picture.content == tiny_version.photo(hit["item_id"], "PNG")


@pytest.mark.parametrize(
    "item_id", ["nothing", "..%2F..%2Fetc%2Fpasswd", "/etc/passwd", "%00", "%FF", "a" * 3000]
)
def test_only_items_have_pictures(client: httpx.Client, item_id: str) -> None:
    assert_problem(client.get(f"/v1/items/{item_id}/image"), 404)


@pytest.mark.parametrize("part", ["bytes=0-1", "bytes=99999999-", "lines=1-2", "bytes=9-2"])
@pytest.mark.parametrize("path", ["/v1/items/red/image", "/docs/static/swagger-ui.css"])
def test_files_are_sent_whole_where_a_part_is_requested(client: httpx.Client, path: str, part: str) -> None:
    """A part that is not there was answered in plain text instead of a problem."""
    whole, partly = client.get(path), client.get(path, headers={"range": part})
    assert (partly.status_code, partly.content) == (200, whole.content)


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    assert_problem(client.get("/nothing"), 404, "/nothing")
    assert_problem(client.get("/v1/search"), 405, "GET")
    assert client.get("/v1/search").headers["allow"] == "POST"


def test_health(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"live": True}
    ready = client.get("/health/ready").json()
    assert ready.pop("home"), "identifies the IMMR_HOME, so that two homes never mix"
    assert ready == {
        "ready": True,
        "features": False,
        "model_version": "immr-1",
        "documents": len(tiny_version.COLOURS),
    }


def test_metrics_name_routes_and_no_users(client: httpx.Client) -> None:
    search(client, user_id="secret-user")
    client.get("/nothing/at/all")
    text = client.get("/metrics").text
    assert 'immr_requests_total{route="/v1/search",status="200"}' in text
    assert 'route="none",status="404"' in text
    assert 'immr_stage_seconds_count{stage="encode"}' in text
    assert 'immr_impressions_total{model_version="immr-1",variant="direct"}' in text
    assert "secret-user" not in text and "/nothing" not in text


def test_the_openapi_lists_every_path_and_error(client: httpx.Client) -> None:
    spec = client.get("/openapi.json").json()
    assert set(spec["paths"]) == {
        "/v1/search",
        "/v1/regions",
        "/v1/events",
        "/v1/items/{item_id}/image",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/infer",
    }
    search_errors = spec["paths"]["/v1/search"]["post"]["responses"]
    assert {"200", "400", "404", "408", "413", "415", "422", "429", "503"} == set(search_errors)
    assert list(search_errors["422"]["content"]) == ["application/problem+json"]
    assert {"Problem", "Rejected", "SearchBody", "EventsAnswer"} <= set(spec["components"]["schemas"])
    assert "HTTPValidationError" not in json.dumps(spec)


def test_a_version_waits_for_its_collection(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    with served_version(settings, folder) as url:
        why = "has no finished collection immr_immr-1"
        until(lambda: why in assert_problem(http_client.get(f"{url}/health/ready"), 503)["detail"])
        answer = http_client.post(f"{url}/v1/search", files={"image": ("a.jpg", RED)})
        assert_problem(answer, 503, "has no finished collection")
        assert answer.headers["retry-after"]
        assert http_client.get(f"{url}/health/live").status_code == 200
        tiny_version.build_index(settings, folder, tiny_version.items(tmp_path / "pictures"))
        wait_ready(url)


@pytest.mark.parametrize(
    ("field", "another"),
    [
        ("version_id", "immr-7"),
        ("dim", "7"),
        ("preprocessing_hash", "of-another-training"),
        ("normalization", "none"),
    ],
)
def test_a_collection_of_another_training_is_refused_with_both_names(
    field: str, another: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "RETRY_S", 0.05)
    settings = Settings(home=tmp_path)
    folder = tiny_version.write_packaged(tmp_path / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(tmp_path / "pictures"))
    opened: list[runtime.Graph] = []
    monkeypatch.setattr(runtime.Graph, "_run_once", lambda graph: opened.append(graph))
    tried: list[str] = []
    open_collection = QdrantIndex.open

    def counted(index: QdrantIndex, version_id: str, *rest: Any) -> Any:
        tried.append(version_id)
        return open_collection(index, version_id, *rest)

    monkeypatch.setattr(QdrantIndex, "open", counted)
    [binding_file] = (tmp_path / "index").rglob("binding.json")
    right = binding_file.read_text()
    binding = json.loads(right)
    own = binding[field]
    binding_file.write_text(json.dumps(binding | {field: type(own)(another)}))
    with served_version(settings, folder) as url:
        until(lambda: "starting" not in http_client.get(f"{url}/health/ready").json()["detail"])
        problem = http_client.get(f"{url}/health/ready").json()
        assert "was built for" in problem["detail"]
        assert str(own) in problem["detail"] and another in problem["detail"]
        assert http_client.get(f"{url}/v2/health/ready").status_code == 503
        before = len(tried)
        until(lambda: len(tried) >= before + 3)
        binding_file.write_text(right)
        wait_ready(url)
    assert len(opened) == 1, "the encoder is opened once, however often the collection is tried"


def test_json_logs_have_a_line_for_each_search(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", SEARCHES):
        query_id = search(client).json()["query_id"]
    [fields] = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert (fields["query_id"], fields["variant"], fields["model_version"]) == (query_id, "direct", "immr-1")
    assert fields["hits"] == 5 and fields["encode_ms"] > 0
