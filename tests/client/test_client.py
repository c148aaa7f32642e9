"""The client, against a real Bento behind a real gateway in this process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from immr.client import Client
from immr.client.answers import Hit
from immr.errors import ServiceError
from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from tests.support import tiny_version
from tests.support.in_process import ready_version, served_gateway
from tests.support.shopper import alone, rows

RED = tiny_version.photo("red")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[Client]:
    folder = tiny_version.write_packaged(settings.home / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(settings.home / "pictures"))
    with ready_version(settings, folder) as bento:
        save(alone(bento), settings.experiment_file)
        with served_gateway(settings) as gateway, Client(str(gateway.base_url), timeout_s=20) as client:
            yield client


def test_a_photo_finds_its_item_and_a_click_is_recorded(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(RED)
    answer = client.search(tmp_path / "photo.jpg", user_id="ann", k=2)
    assert [hit.position for hit in answer.hits] == [1, 2]
    assert (answer.hits[0].item_id, answer.hits[0].attributes["shade"]) == ("red", "warm")
    assert answer.model_version == "immr-1" and answer.variant == "champion"
    rows(settings, answer.query_id)  # once the search is in the log
    assert client.click(answer.hits[0]).accepted == 1
    assert client.click(answer.hits[0]).duplicates == 1
    assert client.click(answer.hits[1], "order", amount=12.5).accepted == 1
    assert [row["amount"] for row in rows(settings, answer.query_id)] == [None, 12.5]
    with pytest.raises(ServiceError, match="only an order has an amount"):
        client.click(answer.hits[0], amount=12.5)
    assert client.picture(answer.hits[0]).startswith(b"\x89PNG")


def test_filters_facets_groups_and_boxes(client: Client) -> None:
    answer = client.search(
        RED, RED, filters=["size:..43", "-shade:pale"], facets=["shade", "size"], group_by="shade"
    )
    assert sorted(str(hit.group) for hit in answer.hits) == ["cold", "warm"]
    assert [member.item_id for hit in answer.hits if hit.group == "warm" for member in hit.members] == [
        "yellow"
    ]
    assert answer.facets["shade"].counts == {"cold": 2, "warm": 2}
    assert (answer.facets["size"].min, answer.facets["size"].max) == (40.0, 44.0)
    assert client.search(RED, box=(0.1, 0.1, 0.5, 0.5), k=1).hits[0].item_id == "red"
    assert client.search(RED, box=(1e-7, 0.0, 0.5, 0.5), k=1).hits[0].item_id == "red"


def test_a_path_as_text_one_filter_and_the_context_of_a_search(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(RED)
    answer = client.search(
        str(tmp_path / "photo.jpg"), k=1, filters="shade:cold", facets="shade", context={"country": "SE"}
    )
    assert answer.hits[0].attributes["shade"] == "cold" and "shade" in answer.facets
    rows(settings, answer.query_id)  # once the search is in the log
    with connect(settings) as parts:
        contexts = {row["query_id"]: row["context"] for row in parts.events.searches().to_pylist()}
    assert json.loads(contexts[answer.query_id]) == {"country": "SE"}
    with pytest.raises(ServiceError, match="'city' is not a declared dimension"):
        client.search(RED, context={"city": "Uppsala"})


def test_pages_end(client: Client) -> None:
    answer = client.search(item_id="red", k=3)
    following = client.next_page(answer)
    assert following is not None
    assert len({hit.item_id for hit in (*answer.hits, *following.hits)}) == 4
    assert client.next_page(following) is None


def test_a_refusal_has_the_reason_of_the_service(client: Client) -> None:
    with pytest.raises(ServiceError, match="no item 'none'") as refused:
        client.search(item_id="none")
    assert refused.value.status == 404
    with pytest.raises(ServiceError, match="not a picture") as refused:
        client.search(b"text")
    assert refused.value.status == 422
    with pytest.raises(ServiceError, match="k: Input should be greater than or equal to 1"):
        client.search(RED, k=0)
    with pytest.raises(ServiceError, match=r"5\.\.1 is reversed"):
        client.search(RED, filters="price:5..1")


@pytest.mark.parametrize(
    ("url", "image_url", "asked"),
    [
        ("https://shop.example/visual/", "/v1/items/a/image", "https://shop.example/visual/v1/items/a/image"),
        ("https://shop.example", "/v1/items/a%2Fb/image", "https://shop.example/v1/items/a%2Fb/image"),
        ("https://shop.example/visual", "https://cdn.example/a.jpg", "https://cdn.example/a.jpg"),
    ],
)
def test_a_picture_is_below_the_services_own_path(url: str, image_url: str, asked: str) -> None:
    """As searches are: behind a proxy, the rest of the host belongs to others."""
    urls: list[str] = []

    def answered(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return httpx.Response(200, content=b"picture")

    with Client(url, transport=httpx.MockTransport(answered)) as client:
        assert client.picture(Hit("a", 1, 0.5, {}, "A", "", image_url, None, "token", {})) == b"picture"
    assert urls == [asked]


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"a": 1}),
        httpx.Response(404, json={"detail": "Not Found"}),  # of another server
    ],
)
def test_another_service_is_recognised(response: httpx.Response) -> None:
    with (
        Client("http://other", transport=httpx.MockTransport(lambda _: response)) as client,
        pytest.raises(ServiceError, match="check the URL"),
    ):
        client.search(RED)


def test_a_service_that_does_not_answer_is_an_error() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with (
        Client("http://nobody", transport=httpx.MockTransport(refuse)) as client,
        pytest.raises(ServiceError, match="http://nobody did not answer") as failed,
    ):
        client.search(RED)
    assert failed.value.status == 0


def test_the_client_needs_nothing_but_httpx() -> None:
    heavy = ("numpy", "PIL", "pydantic", "fastapi", "torch", "pandas", "pyarrow")
    check = f"import sys, immr.client; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_proposed_region_is_a_box(client: Client) -> None:
    picture = Image.new("RGB", (300, 300), "gray")
    picture.paste(tiny_version.COLOURS["green"], (60, 60, 180, 180))
    content = io.BytesIO()
    picture.save(content, "PNG")
    best = client.regions(content.getvalue())[0]
    assert 0 < best.score <= 1
    assert client.search(content.getvalue(), box=best.box, k=1).hits[0].item_id == "green"


def test_a_url_without_its_scheme_is_refused_at_once() -> None:
    with pytest.raises(
        ServiceError, match=r"'127\.0\.0\.1:8080' is not the URL of a service: begin it with http://"
    ):
        Client("127.0.0.1:8080")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda client, hit: client.search([RED, RED]),
            r"photo should be a path .*search\(\*photos\); it is \[",
        ),
        (
            lambda client, hit: client.search(io.BytesIO(RED)),
            "photo should be a path or the content of a file",
        ),
        (lambda client, hit: client.search(None), "photo should be"),
        (lambda client, hit: client.regions([RED]), "photo should be"),
        (
            lambda client, hit: client.search(RED, filters=5),
            "filters should be a text or a list of texts; it is 5",
        ),
        (lambda client, hit: client.search(RED, filters={"size": "4"}), "filters should be a text or a list"),
        (lambda client, hit: client.search(RED, facets=[5]), "facets should be a text or a list of texts"),
        (lambda client, hit: client.search(RED, box=0.5), "box should be four numbers"),
        (lambda client, hit: client.search(RED, box="0,0,1,1"), "box should be four numbers"),
        (
            lambda client, hit: client.search(RED, context="SE"),
            "context should be a dict of texts; it is 'SE'",
        ),
        (lambda client, hit: client.next_page(None), "answer should be the answer of a search; it is None"),
        (lambda client, hit: client.next_page("token"), "answer should be the answer of a search"),
        (
            lambda client, hit: client.click(hit.click_token),
            r"hit should be a hit of an answer.*answer\.hits\[0\]",
        ),
        (lambda client, hit: client.picture(hit.item_id), "hit should be a hit of an answer"),
        (lambda client, hit: Client(None), "url should be a text; it is None"),  # type: ignore[arg-type]
    ],
)
def test_an_argument_of_the_wrong_type_is_named(
    client: Client, call: Callable[[Client, Hit], object], message: str
) -> None:
    [hit] = client.search(RED, k=1).hits
    with pytest.raises(TypeError, match=message):
        call(client, hit)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda client, hit: client.search(RED, k="ten"), "k"),
        (lambda client, hit: client.search(RED, box=(0.1, 0.2)), "box"),
        (lambda client, hit: client.search(item_id=5), "item_id"),
        (lambda client, hit: client.search(text=["red"]), "text"),
        (lambda client, hit: client.search(RED, members=3), "members"),
        (lambda client, hit: client.click(hit, "bought"), "type"),
        (lambda client, hit: client.click(hit, "order", amount="much"), "amount"),
        (lambda client, hit: client.search(RED, context={"country": b"SE"}), "context"),
    ],
)
def test_the_service_names_a_wrong_value(
    client: Client, call: Callable[[Client, Hit], object], field: str
) -> None:
    [hit] = client.search(RED, k=1).hits
    with pytest.raises(ServiceError, match=field):
        call(client, hit)
