"""The gateway over real HTTP: assignment, recording, fallback."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from immr.events.token_keys import rotate
from immr.experiment import changes
from immr.experiment.assignment import assign, group
from immr.experiment.definition import Experiment, Holdout, Variant
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway.app import Gateway, create_gateway_app
from serving.process.options import ServingOptions
from serving.process.recording import Recorder
from tests.support import http_client, tiny_version
from tests.support.in_process import serve, served_gateway
from tests.support.patience import until
from tests.support.shopper import (
    RED,
    alone,
    assert_problem,
    click,
    experiment,
    recorded_search,
    rows,
    rows_now,
    search,
    user_of,
)
from tests.support.stand_in_variant import stand_in


@pytest.fixture(scope="module")
def gateway(bento_url: str, challenger_url: str, settings: Settings) -> Iterator[httpx.Client]:
    save(experiment(bento_url, challenger_url), settings.experiment_file)
    with served_gateway(settings) as client:
        yield client


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def sleeper(held: socket.socket) -> str:
    """An address that accepts connections and never answers."""
    return address_of(held)


def test_a_user_always_gets_the_same_variant(
    gateway: httpx.Client, bento_url: str, challenger_url: str, settings: Settings
) -> None:
    wanted = experiment(bento_url, challenger_url)
    for user in ("ann", "ben", "eve", "joe", "kim", "lea"):
        body = search(gateway, user_id=user).json()
        assert body["variant"] == assign(wanted, user).name
        assert body["model_version"] == assign(wanted, user).model_version
        recorded = rows(settings, body["query_id"])
        assert len(recorded) == len(body["hits"]) == 5
        assert {(row["user_id"], row["variant"]) for row in recorded} == {(user, body["variant"])}
        assert recorded_search(settings, body["query_id"])["fallback"] is False


def test_the_context_of_a_search_is_recorded(gateway: httpx.Client, settings: Settings) -> None:
    body = search(gateway, user_id="ann", context='{"device": "phone", "country": "SE"}').json()
    assert recorded_search(settings, body["query_id"])["context"] == '{"country":"SE","device":"phone"}'
    assert recorded_search(settings, search(gateway).json()["query_id"])["context"] == ""


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ('{"city": "Lund"}', "'city' is not a declared dimension: declared are country, device, channel"),
        ('{"country": "ann@example.org"}', "country is 'ann@example.org': send a code"),
        ("Sweden", "send a JSON object"),
        ('{"country": 5}', "string"),
    ],
)
def test_a_context_that_was_not_declared_is_refused_by_name(
    gateway: httpx.Client, context: str, message: str
) -> None:
    answer = search(gateway, context=context)
    assert_problem(answer, 422)
    [error] = answer.json()["errors"]
    assert error["field"].startswith("context") and message in error["message"]


def test_without_a_user_a_cookie_makes_it_sticky(gateway: httpx.Client, settings: Settings) -> None:
    with httpx.Client(base_url=gateway.base_url) as browser:
        first, second = search(browser), search(browser)
        cookie = browser.cookies["immr_user"]
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "set-cookie" not in second.headers
    assert first.json()["variant"] == second.json()["variant"]
    assert recorded_search(settings, second.json()["query_id"])["user_id"] == cookie.split(".")[0]


@pytest.mark.parametrize("cookie", ["<script>", "0" * 32, "0" * 32 + "." + "A" * 22])
def test_a_cookie_that_is_not_ours_is_replaced(gateway: httpx.Client, cookie: str) -> None:
    answer = gateway.post(
        "/v1/search", files={"image": RED}, headers={"cookie": f"immr_user={cookie}", "connection": "close"}
    )
    assert "immr_user=" in answer.headers["set-cookie"] and cookie not in answer.headers["set-cookie"]


def test_a_cookie_signed_by_an_older_key_keeps_its_user_and_is_signed_again(
    bento_url: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    save(alone(bento_url), settings.experiment_file)
    with served_gateway(settings) as client:
        search(client)
        before = client.cookies["immr_user"]
        rotate(tmp_path / "events" / "token.key")
        search(client)
        after = client.cookies["immr_user"]
        assert before.split(".")[0] == after.split(".")[0] and before != after
        assert "set-cookie" not in search(client).headers


def test_the_cookie_can_be_for_https_only(bento_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    save(alone(bento_url), settings.experiment_file)
    server = serve(create_gateway_app(Gateway(connect(settings)), ServingOptions(cookie_secure=True)))
    try:
        cookie = http_client.post(f"{server.url}/v1/search", files={"image": RED}).headers["set-cookie"]
        assert all(word in cookie for word in ("Secure", "HttpOnly", "SameSite=lax"))
    finally:
        server.stop()


def test_clicks_come_back_through_the_gateway(gateway: httpx.Client, settings: Settings) -> None:
    body = search(gateway, user_id="ann").json()
    events = {"events": [click(body["hits"][0]["click_token"]), click("bad")]}
    answer = gateway.post("/v1/events", json=events).json()
    assert (answer["accepted"], answer["duplicates"], len(answer["rejected"])) == (1, 0, 1)
    assert gateway.post("/v1/events", json=events).json()["duplicates"] == 1
    assert [row["clicked"] for row in rows(settings, body["query_id"])][:2] == [True, False]


def test_a_preview_is_not_recorded(gateway: httpx.Client, settings: Settings) -> None:
    body = search(gateway, variant="preview", user_id="ann").json()
    assert body["variant"] == "preview"
    assert rows(settings, search(gateway).json()["query_id"])  # a later search is recorded
    assert rows_now(settings, body["query_id"]) == []
    token = body["hits"][0]["click_token"]
    assert_problem(gateway.post("/v1/events", json={"events": [click(token)]}), 422, "preview")


def test_another_variant_header_changes_nothing(gateway: httpx.Client) -> None:
    assert search(gateway, variant="direct", user_id="ann").json()["variant"] in ("champion", "challenger")


@pytest.mark.parametrize("image", [b"", RED[:-40]])
def test_a_variants_problem_is_forwarded(gateway: httpx.Client, image: bytes) -> None:
    assert_problem(search(gateway, image, user_id="ann"), 422, "image")


def test_the_gateway_refuses_invalid_requests(gateway: httpx.Client) -> None:
    assert_problem(search(gateway, k="0"), 422, "k: ")
    assert_problem(
        search(gateway, price_min="5", price_max="1"), 422, "price_min: 5 is above the price_max of 1"
    )
    assert_problem(search(gateway, filter="price:5..1"), 422, "filter: The range 5..1 is reversed")
    assert_problem(search(gateway, bytes(11 * 1024 * 1024)), 413, "10 MB")
    assert_problem(gateway.post("/v1/search", json={}), 422, "send one of image, item_id and page")
    assert_problem(gateway.post("/v1/search", content=b"x", headers={"content-type": "text/plain"}), 415)
    assert_problem(
        gateway.post("/v1/events", content=b"{", headers={"content-type": "application/json"}), 400
    )
    assert_problem(gateway.get("/nothing"), 404)
    assert_problem(gateway.delete("/v1/events"), 405)


def test_pictures_are_forwarded(gateway: httpx.Client) -> None:
    for hit in search(gateway, user_id="ann").json()["hits"]:
        picture = gateway.get(hit["image_url"])
        assert picture.headers["content-type"] == "image/png"
        assert picture.content == tiny_version.photo(hit["item_id"], "PNG")
    assert_problem(gateway.get("/v1/items/nothing/image"), 404)


def test_gateway_health_metrics_and_openapi(gateway: httpx.Client) -> None:
    search(gateway, user_id="secret-user")
    assert gateway.get("/health/live").status_code == 200
    ready = gateway.get("/health/ready").json()
    assert ready == {"ready": True, "variants": {"champion": True, "challenger": True}}
    text = gateway.get("/metrics").text
    for expected in (
        'immr_stage_seconds_count{stage="encode"}',
        'immr_stage_seconds_count{stage="forward"}',
        'immr_impressions_total{model_version="immr-',
        'immr_events_total{model_version="immr-',
        'immr_errors_total{kind="http_',
    ):
        assert expected in text
    assert "secret-user" not in text
    described = gateway.get("/openapi.json").json()["paths"]["/v1/search"]["post"]
    assert {each["name"] for each in described["parameters"]} == {"immr_user", "x-immr-variant"}


def test_the_champion_answers_for_a_variant_that_is_down(
    bento_url: str, nobody: str, settings: Settings, own_settings: Settings
) -> None:
    wanted = experiment(bento_url, nobody)
    save(wanted, own_settings.experiment_file)
    with served_gateway(own_settings) as client:
        body = search(client, user_id=user_of("challenger", wanted)).json()
        assert (body["variant"], body["model_version"]) == ("challenger", "immr-1")
        assert client.get("/health/ready").json()["variants"] == {"champion": True, "challenger": False}
        assert 'immr_errors_total{kind="variant_down"} 1.0' in client.get("/metrics").text
    found = recorded_search(own_settings, body["query_id"])
    assert (found["variant"], found["model_version"], found["fallback"]) == ("challenger", "immr-1", True)


def test_the_challenger_answers_for_a_champion_that_is_down(
    challenger_url: str, nobody: str, own_settings: Settings
) -> None:
    wanted = experiment(nobody, challenger_url)
    save(wanted, own_settings.experiment_file)
    with served_gateway(own_settings) as client:
        body = search(client, user_id=user_of("champion", wanted)).json()
        assert (body["variant"], body["model_version"]) == ("champion", "immr-2")
        assert client.get(body["hits"][0]["image_url"]).status_code == 200


def test_a_slow_variant_times_out(bento_url: str, sleeper: str, own_settings: Settings) -> None:
    wanted = experiment(bento_url, sleeper)
    save(wanted, own_settings.experiment_file)
    with served_gateway(own_settings, timeout_s=0.5) as client:
        body = search(client, user_id=user_of("challenger", wanted)).json()
    assert recorded_search(own_settings, body["query_id"])["fallback"] is True


def test_all_down_is_a_503(nobody: str, own_settings: Settings) -> None:
    save(experiment(nobody, nobody), own_settings.experiment_file)
    with served_gateway(own_settings) as client:
        answer = search(client)
        assert_problem(answer, 503, "No variant answers")
        assert answer.headers["retry-after"] == "2"
        assert_problem(client.get("/health/ready"), 503, "No variant is ready")
        assert_problem(client.get("/v1/items/red/image"), 503)
        assert client.get("/health/live").status_code == 200


def test_without_an_experiment_it_waits_for_one(bento_url: str, own_settings: Settings) -> None:
    with served_gateway(own_settings) as client:
        assert_problem(search(client), 503, "there is no test")
        save(alone(bento_url), own_settings.experiment_file)
        assert search(client).status_code == 200


def test_the_experiment_can_change_while_it_runs(
    bento_url: str, challenger_url: str, own_settings: Settings
) -> None:
    save(experiment(bento_url, challenger_url, weight=0), own_settings.experiment_file)
    with served_gateway(own_settings) as client:
        assert search(client, user_id="ann").json()["model_version"] == "immr-1"
        save(experiment(bento_url, challenger_url, weight=1), own_settings.experiment_file)
        assert search(client, user_id="ann").json()["model_version"] == "immr-2"


def test_an_invalid_experiment_file_changes_nothing_and_is_reported(
    bento_url: str, challenger_url: str, own_settings: Settings
) -> None:
    save(experiment(bento_url, challenger_url, weight=1), own_settings.experiment_file)
    with served_gateway(own_settings) as client:
        assert search(client, user_id="ann").json()["model_version"] == "immr-2"
        assert "immr_experiment_file_wrong 0.0" in client.get("/metrics").text
        own_settings.experiment_file.write_text("{half of it")
        assert search(client, user_id="ann").json()["model_version"] == "immr-2"
        assert "immr_experiment_file_wrong 1.0" in client.get("/metrics").text
        save(experiment(bento_url, challenger_url, weight=0), own_settings.experiment_file)
        assert search(client, user_id="ann").json()["model_version"] == "immr-1"
        assert "immr_experiment_file_wrong 0.0" in client.get("/metrics").text


def shadowed(champion_url: str, challenger_url: str) -> Experiment:
    return changes.shadow(("immr-1", champion_url), ("immr-2", challenger_url), datetime.now(UTC))


def test_in_shadow_mode_the_challenger_is_asked_but_never_shown(
    bento_url: str, challenger_url: str, own_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    save(shadowed(bento_url, challenger_url), own_settings.experiment_file)
    with caplog.at_level("INFO", "serving.gateway.shadow"), served_gateway(own_settings) as client:
        first = search(client, user_id="user-0", k="2", variant="preview").json()
        page = client.post("/v1/search", json={"page": first["next_page"], "user_id": "user-0"})
        assert page.json()["hits"][0]["position"] == 3
        bodies = [search(client, user_id=f"user-{number}").json() for number in range(5)]
        assert {(body["variant"], body["model_version"]) for body in bodies} == {("champion", "immr-1")}
        answered = 'immr_shadow_total{outcome="answered"} 5.0'
        until(lambda: answered in client.get("/metrics").text, context=lambda: shadow_lines(client))
        assert 'immr_shadow_total{outcome="failed"}' not in client.get("/metrics").text
    by_query = {
        record.fields["query_id"]: record.fields for record in caplog.records if hasattr(record, "fields")
    }
    for body in bodies:
        fields = by_query[body["query_id"]]
        assert fields["model_version"] == "immr-2" and fields["overlap"] == 1.0
        assert fields["shown"] == [hit["item_id"] for hit in body["hits"]]
        assert {row["variant"] for row in rows(own_settings, body["query_id"])} == {"champion"}
    log = connect(own_settings).events
    assert log.searches().num_rows == 6  # the copies are not in the log
    log.close()


def shadow_lines(client: httpx.Client) -> list[str]:
    return [line for line in client.get("/metrics").text.splitlines() if line.startswith("immr_shadow_total")]


def test_a_shadow_that_hangs_delays_nobody(bento_url: str, sleeper: str, own_settings: Settings) -> None:
    save(shadowed(bento_url, sleeper), own_settings.experiment_file)
    with served_gateway(own_settings, timeout_s=2.0) as client:
        answers = [search(client, user_id=f"user-{number}") for number in range(60)]
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.elapsed.total_seconds() < 1.5 for answer in answers)
        assert 'immr_shadow_total{outcome="left_out"}' in client.get("/metrics").text


def test_while_the_event_log_is_down_events_wait_on_disk(bento_url: str, own_settings: Settings) -> None:
    save(alone(bento_url), own_settings.experiment_file)
    in_the_way = Path(urlsplit(own_settings.events_url).path)
    in_the_way.mkdir(parents=True)  # so that no database can be opened
    with served_gateway(own_settings) as client:
        body = search(client).json()
        assert body["hits"] and "events" not in body["degraded"]
        answer = client.post("/v1/events", json={"events": [click(body["hits"][0]["click_token"])]}).json()
        assert (answer["accepted"], answer["waiting"]) == (1, 1)
        waiting = re.search(r"immr_events_waiting_bytes ([0-9.]+)", client.get("/metrics").text)
        assert waiting and float(waiting.group(1)) > 0
        in_the_way.rmdir()
        recorded = rows(own_settings, body["query_id"])
        assert [row["clicked"] for row in recorded] == [True, False, False, False, False]
        again = client.post("/v1/events", json={"events": [click(body["hits"][0]["click_token"])]}).json()
        assert (again["accepted"], again["duplicates"], again["waiting"]) == (0, 1, 0)


def test_a_search_that_cannot_be_recorded_reports_it(bento_url: str, own_settings: Settings) -> None:
    save(alone(bento_url), own_settings.experiment_file)
    gateway = Gateway(connect(own_settings))
    gateway.recorder = Recorder(connect(own_settings), gateway.metrics, max_waiting_bytes=10)
    server = serve(create_gateway_app(gateway))
    try:
        with httpx.Client(base_url=server.url) as client:
            body = search(client).json()
            assert body["hits"] and "events" in body["degraded"]
            events = {"events": [click(body["hits"][0]["click_token"])]}
            assert_problem(client.post("/v1/events", json=events), 503, "Send the same events again")
    finally:
        server.stop()


def test_shutdown_finishes_requests_in_progress(
    bento_url: str, held: socket.socket, own_settings: Settings
) -> None:
    wanted = experiment(bento_url, address_of(held))
    save(wanted, own_settings.experiment_file)
    server = serve(create_gateway_app(Gateway(connect(own_settings), timeout_s=1.0)))
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=server.url, timeout=10) as client:
        user = user_of("challenger", wanted)
        asking = threading.Thread(target=lambda: answers.append(search(client, user_id=user)))
        asking.start()
        waiting, _ = held.accept()
        with waiting:
            waiting.recv(1)  # the search is in progress
            server.stop()
        asking.join()
    assert answers[0].status_code == 200
    assert recorded_search(own_settings, answers[0].json()["query_id"])["ts"] <= datetime.now(UTC)


def test_every_variant_answers_its_users_and_the_champion_those_who_are_not_compared(tmp_path: Path) -> None:
    """Three challengers, of which one has left the test and is gone, and a holdout."""
    settings = Settings(home=tmp_path)
    with stand_in("immr-1") as champion, stand_in("immr-3") as second, stand_in("immr-4") as third:
        variants = (
            Variant("champion", champion.url, "immr-1", 0.1),
            Variant("challenger", "http://127.0.0.1:9", "immr-2", 0.3, ended=True),
            Variant("challenger-2", second.url, "immr-3", 0.3),
            Variant("challenger-3", third.url, "immr-4", 0.3),
        )
        held_out = Holdout(0.2, "years", datetime.now(UTC))
        several = Experiment("several", "salt", variants, holdout=held_out)
        save(several, settings.experiment_file)
        with served_gateway(settings) as client:
            seen = Counter()
            for user in (f"user-{number}" for number in range(60)):
                body = search(client, user_id=user).json()
                assert body["variant"] == group(several, user)
                assert body["model_version"] == assign(several, user).model_version
                seen[body["variant"], body["model_version"]] += 1
            assert {("holdout", "immr-1"), ("ended", "immr-1"), ("champion", "immr-1")} < set(seen)
            assert {("challenger-2", "immr-3"), ("challenger-3", "immr-4")} < set(seen)
            recorded = recorded_search(settings, body["query_id"])
            assert (recorded["variant"], recorded["fallback"]) == (body["variant"], False)
            assert set(client.get("/health/ready").json()["variants"]) == {
                "champion",
                "challenger-2",
                "challenger-3",
            }
