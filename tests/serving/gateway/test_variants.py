"""Variants that misbehave over real HTTP: the champion answers for them, and no shopper notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import Request, Response
from prometheus_client import generate_latest

from immr.experiment.definition import Experiment, Kind, State
from immr.experiment.file import save
from immr.search.pages import Cursor, Wanted
from immr.settings import Settings
from immr.wiring import connect
from serving.gateway import app
from serving.gateway.split import Gateway
from serving.wire.problems import PROBLEM_JSON
from serving.wire.schemas import VARIANT_HEADER
from serving.wire.search.paging import Page, sign
from tests.support import tiny_version
from tests.support.in_process import served_gateway
from tests.support.patience import until
from tests.support.shopper import alone, assert_problem, experiment, recorded_search, search, user_of
from tests.support.stand_in_variant import StandIn, hits, problem, stand_in

NOWHERE = "http://127.0.0.1:9"
RED = tiny_version.photo("red")


CHALLENGER_IS_OPEN = 'immr_breaker_open{variant="challenger"}'


class Shop:
    """A gateway before two stand-ins; `ann` is the challenger's, `ben` the champion's."""

    def __init__(self, home: Path, champion: StandIn, challenger: StandIn, gateway: httpx.Client) -> None:
        self.settings, self.client = Settings(home=home), gateway
        self.champion, self.challenger = champion, challenger
        self.experiment = experiment(champion.url, challenger.url)
        self.ann = user_of("challenger", self.experiment)
        self.ben = user_of("champion", self.experiment)
        self.runs(self.experiment)

    def runs(self, wanted: Experiment) -> None:
        save(wanted, self.settings.experiment_file)

    def search(self, user: str = "", **fields: str) -> httpx.Response:
        return search(self.client, user_id=user or self.ann, **fields)

    def figure(self, name: str) -> float | None:
        text = self.client.get("/metrics").text
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), None)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as running:
        champion = running.enter_context(stand_in("immr-1"))
        challenger = running.enter_context(stand_in("immr-2"))
        gateway = running.enter_context(served_gateway(Settings(home=tmp_path), timeout_s=1.0))
        yield Shop(tmp_path, champion, challenger, gateway)


def falls_back(shop: Shop) -> bool:
    body = shop.search().json()
    assert (body["variant"], body["model_version"]) == ("challenger", "immr-1")
    return bool(recorded_search(shop.settings, body["query_id"])["fallback"])


@pytest.mark.parametrize(
    ("status", "content", "content_type"),
    [
        (404, "<h1>404 page not found</h1>", "text/html"),
        (403, "<h1>Forbidden</h1>", "text/html"),
        (401, "<h1>Log in</h1>", "text/html"),
        (413, "<h1>Too large</h1>", "text/html"),
        (403, '{"title": "x", "status": 403, "detail": "x"}', PROBLEM_JSON),
        (418, '{"title": "x", "status": 418, "detail": "x"}', PROBLEM_JSON),
        (460, "", "text/plain"),
        (422, "{}", PROBLEM_JSON),
        (422, "not JSON", PROBLEM_JSON),
        (302, "", "text/html"),
    ],
)
def test_a_4xx_that_is_not_a_bentos_counts_as_a_failure(
    shop: Shop, status: int, content: str, content_type: str
) -> None:
    shop.challenger.says(status, content, content_type)
    for _ in range(5):
        assert falls_back(shop)
    assert shop.figure('immr_errors_total{kind="variant_down"}') == 5
    shop.search()
    assert len(shop.challenger.asked) == 5, "its breaker is open"


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422, 431])
def test_a_bentos_own_4xx_is_about_the_request(shop: Shop, status: int) -> None:
    async def refused(request: Request) -> Response:
        return problem(status, "what was wrong")

    shop.challenger.answer = refused
    for _ in range(6):
        assert_problem(shop.search(), status, "what was wrong")
    assert shop.champion.asked == []


def test_a_key_that_only_one_variant_does_not_know_makes_it_fall_back(shop: Shop) -> None:
    async def refused(request: Request) -> Response:
        return problem(401, "this needs a key", **{"WWW-Authenticate": "Bearer"})

    shop.challenger.answer = refused
    for _ in range(6):
        assert falls_back(shop)
    assert len(shop.challenger.asked) == 6, "a caller without a key opens no breaker"
    shop.runs(replace(shop.experiment, kind="interleave"))
    assert falls_back(shop)
    shop.champion.answer = refused
    answer = shop.search()
    assert_problem(answer, 401, "this needs a key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_interleaving_falls_back_to_the_version_with_capacity(shop: Shop) -> None:
    shop.runs(replace(shop.experiment, kind="interleave"))

    async def refused(request: Request) -> Response:
        return problem(429, "too many", **{"Retry-After": "2"})

    shop.challenger.answer = refused
    assert falls_back(shop)
    shop.champion.answer = refused
    answer = shop.search()
    assert_problem(answer, 429)
    assert answer.headers["retry-after"] == "2"


def test_a_404_that_is_not_a_bentos_is_not_an_answer_about_a_picture(shop: Shop) -> None:
    shop.champion.says(404, "<h1>404 page not found</h1>")
    shop.challenger.says(200, RED, "image/png")
    assert shop.client.get("/v1/items/red/image").content == RED
    shop.challenger.says(404, "<h1>404 page not found</h1>")
    assert_problem(shop.client.get("/v1/items/red/image"), 503, "No variant answers")


def test_regions_come_from_another_variant_unless_the_photo_is_at_fault(shop: Shop) -> None:
    def regions() -> httpx.Response:
        return shop.client.post("/v1/regions", files={"image": RED})

    shop.champion.says(404, "<h1>404 page not found</h1>")
    shop.challenger.says(200, '{"regions": [], "took_ms": 1.0}', "application/json")
    assert regions().json()["regions"] == []
    assert shop.challenger.asked == ["/v1/regions"]

    async def refused(request: Request) -> Response:
        return problem(422, "The image is broken.")

    shop.champion.answer = refused
    assert_problem(regions(), 422, "The image is broken.")
    assert shop.challenger.asked == ["/v1/regions"]


def test_an_address_that_serves_another_version_counts_as_down(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.challenger.finds("immr-3")
    with caplog.at_level("WARNING"):
        assert falls_back(shop)
    assert "challenger (immr-2) answered as immr-3" in caplog.text
    shop.champion.says(200, '{"ready": true, "model_version": "immr-1"}', "application/json")
    shop.challenger.says(200, '{"ready": true, "model_version": "immr-3"}', "application/json")
    assert shop.client.get("/health/ready").json()["variants"] == {"champion": True, "challenger": False}
    shop.champion.says(200, "<h1>Welcome</h1>")
    assert_problem(shop.client.get("/health/ready"), 503, "No variant is ready")


def test_a_429_to_the_trial_keeps_the_breaker_open(shop: Shop) -> None:
    """A variant that hangs answers 429 to the trial while its queue is full."""

    async def full(request: Request) -> Response:
        return problem(429, "too much", **{"Retry-After": "2"})

    shop.challenger.says(500)
    for _ in range(5):
        assert falls_back(shop)
    assert shop.figure(CHALLENGER_IS_OPEN) == 1
    shop.challenger.answer = full

    def trial_was_sent() -> bool:
        assert shop.search().json()["model_version"] == "immr-1"
        return len(shop.challenger.asked) == 6

    until(trial_was_sent)
    shop.search()
    assert len(shop.challenger.asked) == 6, "the next trial is due in two seconds"


def test_a_429_neither_opens_the_breaker_nor_resets_its_failures(shop: Shop) -> None:
    async def full(request: Request) -> Response:
        return problem(429, "too much", **{"Retry-After": "2"})

    shop.challenger.answer = full
    for _ in range(6):
        answer = shop.search()
        assert_problem(answer, 429, "too much")
        assert answer.headers["retry-after"] == "2"
    for _ in range(5):
        shop.challenger.says(500)
        assert falls_back(shop)
        shop.challenger.answer = full
        if shop.figure(CHALLENGER_IS_OPEN) == 0:
            assert_problem(shop.search(), 429)
    assert shop.figure(CHALLENGER_IS_OPEN) == 1


@pytest.mark.parametrize("state", ["stopped", "shadow"])
def test_a_stopped_or_shadow_challenger_answers_no_shopper(shop: Shop, state: State) -> None:
    shop.runs(replace(shop.experiment, state=state))
    shop.champion.says(500)
    for user in (shop.ann, shop.ben):
        assert_problem(shop.search(user), 503, "No variant answers")
    assert_problem(shop.client.get("/v1/items/red/image"), 503)
    assert_problem(shop.client.get("/health/ready"), 503, "No variant is ready: champion.")
    assert shop.challenger.asked == []


@pytest.mark.parametrize("end", ["promoted", "stopped", "elsewhere"])
def test_the_breaker_metric_forgets_a_challenger_that_is_gone(shop: Shop, end: str) -> None:
    shop.challenger.says(500)
    for _ in range(5):
        shop.search()
    assert shop.figure(CHALLENGER_IS_OPEN) == 1
    [champion, challenger] = shop.experiment.variants
    shop.runs(
        {
            "promoted": replace(shop.experiment, variants=(replace(champion, weight=1.0),)),
            "stopped": replace(shop.experiment, state="stopped"),
            "elsewhere": replace(shop.experiment, variants=(champion, replace(challenger, url=NOWHERE))),
        }[end]
    )
    assert shop.figure(CHALLENGER_IS_OPEN) == (0 if end == "elsewhere" else None)
    assert shop.figure('immr_breaker_open{variant="champion"}') == 0


def test_breakers_of_former_addresses_are_forgotten(tmp_path: Path) -> None:
    gateway = Gateway(connect(settings := Settings(home=tmp_path)))
    variants = gateway._variants
    for number in range(100):
        wanted = experiment(f"http://127.0.0.1:{1000 + number}", f"http://127.0.0.1:{2000 + number}")
        save(wanted, settings.experiment_file)
        assert all(variants.admit(variant) for variant in gateway.experiment().variants)
    assert len(variants._breakers) == 2
    asyncio.run(gateway.recorder.close())


def test_an_invalid_file_is_reported_before_the_first_search(tmp_path: Path) -> None:
    gateway = Gateway(connect(settings := Settings(home=tmp_path)))

    def is_wrong() -> bool:
        return "immr_experiment_file_wrong 1.0" in generate_latest(gateway.metrics.registry).decode()

    assert not is_wrong(), "there is no file yet"
    settings.experiment_file.parent.mkdir()
    settings.experiment_file.write_text("{half of it")
    assert is_wrong()
    save(alone(NOWHERE), settings.experiment_file)
    assert not is_wrong()
    settings.experiment_file.unlink()
    assert is_wrong()
    asyncio.run(gateway.recorder.close())


async def pictures(url: str, count: int) -> list[int]:
    """The statuses of this many concurrent requests."""
    async with httpx.AsyncClient(base_url=url, timeout=20, limits=httpx.Limits()) as client:
        answers = await asyncio.gather(*(client.get("/v1/items/red/image") for _ in range(count)))
    return [answer.status_code for answer in answers]


def test_connections_are_kept_but_not_forever(shop: Shop) -> None:
    """A Service gives each connection to one pod, so a pod that has just started would never be asked."""
    ports = []

    async def by_connection(request: Request) -> Response:
        assert request.client is not None
        ports.append(request.client.port)
        return hits("immr-1", variant=request.headers.get(VARIANT_HEADER, "direct"))

    shop.champion.answer = by_connection
    statuses = {shop.search(shop.ben).status_code for _ in range(64)}
    assert statuses == {200}
    assert 3 <= len(set(ports)) <= 8


def test_pictures_that_hang_do_not_delay_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_MAX_PICTURES", 80)
    released, statuses = threading.Event(), []

    async def slow_pictures(request: Request) -> Response:
        if request.method == "POST":
            return hits("immr-1", variant=request.headers[VARIANT_HEADER])
        while not released.is_set():
            await asyncio.sleep(0.05)  # 80 of these would fill any pool of threads
        return Response(RED, media_type="image/png")

    settings = Settings(home=tmp_path)
    with stand_in() as champion, served_gateway(settings, timeout_s=8.0) as client:
        save(alone(champion.url), settings.experiment_file)
        champion.answer = slow_pictures
        asking = pictures(str(client.base_url), 100)
        looking = threading.Thread(target=lambda: statuses.extend(asyncio.run(asking)))
        looking.start()
        until(lambda: sum(path.endswith("image") for path in champion.asked) >= 64, pause_s=0.02)
        took_s = [search(client, user_id="ann").elapsed.total_seconds() for _ in range(3)]
        released.set()
        looking.join()
        assert "variant_down" not in client.get("/metrics").text
    assert max(took_s) < 4
    assert set(statuses) == {200, 429}


@pytest.mark.parametrize("wrong", ['"salt": 123', '"salt": "\\ud800"', '"variants": ' + "[" * 5000])
def test_any_invalid_file_keeps_the_previous_experiment(shop: Shop, wrong: str) -> None:
    assert shop.search().json()["model_version"] == "immr-2"
    text = shop.settings.experiment_file.read_text()
    shop.settings.experiment_file.write_text(text.replace('"salt": "salt"', wrong))
    assert shop.search().json()["model_version"] == "immr-2"
    assert shop.figure("immr_experiment_file_wrong") == 1


@pytest.mark.parametrize("kind", ["ab", "interleave"])
def test_a_page_continues_with_the_version_that_answered_first(
    bento_url: str, challenger_url: str, settings: Settings, tmp_path: Path, kind: Kind
) -> None:
    own = Settings(home=tmp_path, token_key_file=settings.token_key_file)
    wanted = replace(experiment(bento_url, NOWHERE), kind=kind)
    ann = user_of("challenger", wanted)
    save(wanted, own.experiment_file)
    with served_gateway(own) as client:
        first = search(client, user_id=ann, k="2").json()
        assert (first["variant"], first["model_version"]) == ("challenger", "immr-1")
        save(replace(experiment(bento_url, challenger_url), kind=kind), own.experiment_file)
        assert search(client, user_id=ann).json()["model_version"] == "immr-2"
        following = client.post("/v1/search", json={"page": first["next_page"], "user_id": ann})
        assert following.json()["model_version"] == "immr-1"
        assert [hit["position"] for hit in following.json()["hits"]] == [3, 4]
        assert recorded_search(own, following.json()["query_id"])["fallback"] is True
        forged = first["next_page"][:-4] + "AAAA"
        assert_problem(
            client.post("/v1/search", json={"page": forged, "user_id": ann}),
            400,
            "not issued by this service",
        )
        save(alone(challenger_url, "immr-2"), own.experiment_file)
        gone = client.post("/v1/search", json={"page": first["next_page"], "user_id": ann})
        assert_problem(gone, 400, "start a new search")


def test_a_page_waits_for_the_version_that_began_it(shop: Shop) -> None:
    """Another version would refuse the page for good, although its own may be back in a moment."""

    async def down(request: Request) -> Response:
        return Response(status_code=500)

    async def other(request: Request) -> Response:
        return problem(400, "The page token is from another version")

    page = sign(
        Page("immr-2", 1, Wanted(3, text="red"), Cursor(), None), connect(shop.settings).token_keys[0]
    )
    shop.challenger.answer, shop.champion.answer = down, other
    for user in [shop.ann, shop.ben] * 4:  # then the breaker is open
        answer = shop.client.post("/v1/search", json={"page": page, "user_id": user})
        assert_problem(answer, 503, "Try again in a moment")
        assert answer.headers["retry-after"] == "2"
    shop.runs(alone(shop.champion.url))
    until(lambda: shop.client.post("/v1/search", json={"page": page}).status_code == 400)
