"""The page's search by photo, words and item, at versions in processes of their own."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from PIL import Image
from starlette.testclient import TestClient

from dashboards.page import _templates
from dashboards.search_routes import PageSearch, api_call, filters_in, samples_in, suggested_categories
from dashboards.variant_search import PICTURES, PreviewSearch, RunningSearch, VariantSearch, VersionAnswer
from immr.data.mapping.shop_map import PictureRules
from immr.experiment.definition import Variant
from tests.support.opened_page import next_part, opened, photo, searched, text
from tests.support.page_home import STARTED, add_samples, fill
from tests.support.stand_in_variant import stand_in
from tests.support.upstream_process import CATEGORIES, REGIONS, TITLES, free_port, picture, seen_by, upstream


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, upstreams: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("home")
    fill(folder, upstreams, 0, STARTED)
    add_samples(folder)
    return folder


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[TestClient]:
    with opened(home, home / "photos", api_link="https://search.example/") as client:
        yield client


def test_both_versions_answer_and_nothing_is_counted(page: TestClient, upstreams: list[str]) -> None:
    before = [len(seen_by(url)["searches"]) for url in upstreams]
    answer = searched(page, files=photo(), data={"k": "3"})
    assert answer.status_code == 200
    assert answer.text.count('<li class="hit">') == 6
    shown = text(answer.text)
    assert "Both versions answered." in shown
    assert shown.count("the feature store did not answer") == 1
    assert re.search(r"cosine 0\.\d{3} \+ ctr 0\.\d{3}", shown)
    for url, count in zip(upstreams, before, strict=True):
        searches = seen_by(url)["searches"]
        assert len(searches) == count + 1
        assert searches[-1] == {"k": "3", "user_id": "preview", "preview": "preview"}


def test_a_version_that_hangs_does_not_hold_the_other_back(tmp_path: Path, upstreams: list[str]) -> None:
    with upstream("challenger", "immr-2", "--hangs") as frozen:
        fill(tmp_path, [upstreams[0], frozen], 0, STARTED)
        with opened(tmp_path) as page:
            first = page.post("/search", files=photo())
            assert first.text.count('<li class="hit">') == 5
            assert "immr-1 answered so far; waiting for immr-2." in text(first.text)
            assert "in immr-" not in text(first.text)
            assert seen_by(frozen)["searches"]
            httpx.post(f"{frozen}/go", trust_env=False)
            both = page.get(next_part(first.text))
            assert "Both versions answered." in text(both.text)
            assert both.text.count('<li class="hit">') == 10
            assert not next_part(both.text)


def test_an_answer_that_arrives_while_the_page_is_rendered_is_fetched() -> None:
    """It was shown as missing for good."""

    async def shown() -> str:
        release = asyncio.Event()

        async def answer(variant: Variant) -> VersionAnswer:
            if variant.name == "challenger":
                await release.wait()
            return VersionAnswer(variant.name, variant.model_version)

        variants = [
            Variant("champion", "http://a", "immr-1", 0.5),
            Variant("challenger", "http://b", "immr-2", 0.5),
        ]
        tasks = [(variant, asyncio.create_task(answer(variant))) for variant in variants]
        running = RunningSearch(PreviewSearch(5, text="red"), tasks)
        await asyncio.wait([tasks[0][1]])
        loop = asyncio.get_running_loop()

        def serving() -> list[Variant]:  # called in a thread, between the answers and the template
            loop.call_soon_threadsafe(release.set)
            asyncio.run_coroutine_threadsafe(asyncio.wait([tasks[1][1]]), loop).result()
            return variants

        def render(template: str, **values: Any) -> str:
            return _templates().get_template(template).render(**values)

        search = PageSearch(render, VariantSearch(), serving, [], "")
        return bytes((await search.shown(running)).body).decode()

    html = asyncio.run(shown())
    assert "immr-1 answered so far; waiting for immr-2." in text(html)
    assert next_part(html)


def test_an_old_search_is_not_continued(page: TestClient) -> None:
    gone = page.get("/searches/unknown")
    assert (gone.status_code, "Search again." in gone.text) == (404, True)


def test_the_page_says_what_fits_the_photo(page: TestClient) -> None:
    shown = text(searched(page, files=photo()).text)
    assert shown.count("exact match") == 2 and "looks like this photo" not in shown
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    shown = text(searched(page, files=photo(buffer.getvalue())).text)
    assert shown.count("Nothing in the catalogue looks like this photo.") == 2 and "exact match" not in shown


def test_items_that_moved_are_marked(page: TestClient) -> None:
    html = re.sub(r"\s+", " ", searched(page, files=photo(), data={"k": "12"}).text)
    first, second = html.split('id="answer-2"')
    higher = len(re.findall('class="move up"', first))
    assert higher > 0
    assert higher == len(re.findall('class="move down"', second))
    few = searched(page, files=photo(), data={"k": "3"}).text
    assert 'class="move new"' in few and "not in immr-" in few


def test_words_alone_and_beside_a_photo(page: TestClient, upstreams: list[str]) -> None:
    assert "Both versions answered." in text(searched(page, data={"text": " red thing "}).text)
    assert seen_by(upstreams[0])["searches"][-1]["text"] == "red thing"
    searched(page, files=photo(), data={"text": "blue"})
    assert seen_by(upstreams[0])["searches"][-1]["text"] == "blue"


def test_more_like_an_item(page: TestClient, upstreams: list[str]) -> None:
    html = searched(page, files=photo()).text
    item = re.findall(r'data-item="([^"]+)"', html)[0]
    searched(page, data={"item_id": item, "sample": ""})
    assert seen_by(upstreams[0])["searches"][-1]["item_id"] == item


def test_a_category_is_passed_on(page: TestClient) -> None:
    shown = text(searched(page, files=photo(), data={"category": " Fruit/Pear "}).text)
    assert "Fruit/Pear" in shown
    assert "Packages/Milk" not in shown
    nothing = searched(page, files=photo(), data={"category": "Toys"})
    assert text(nothing.text).count("No item found in category Toys.") == 2


def test_an_invalid_photo_is_refused_with_a_reason(page: TestClient) -> None:
    refused = searched(page, files=photo(b"no picture"))
    assert refused.status_code == 200
    assert "That is not a JPEG, PNG or WebP picture." in refused.text
    assert page.post("/search", data={"k": "5"}).status_code == 422
    assert "Choose a photo or type words first." in page.post("/search", files=photo(b"")).text
    large = page.post("/search", files=photo(b"\xff\xd8" + bytes(10 * 1024 * 1024)))
    assert (large.status_code, "larger than 10 MB" in large.text) == (413, True)


def test_samples_are_a_dozen_and_can_be_searched(page: TestClient, tmp_path: Path) -> None:
    assert page.get("/").text.count('class="sample"') == 12
    assert page.get("/samples/11").content == picture(13, 48)
    assert "Both versions answered." in searched(page, data={"sample": "0"}).text
    assert page.get("/samples/12").status_code == 404
    assert page.post("/search", data={"sample": "-1"}).status_code == 404
    assert samples_in(None) == samples_in(tmp_path / "nothing") == []


def test_versions_that_do_not_answer(tmp_path: Path, upstreams: list[str]) -> None:
    fill(tmp_path, [upstreams[0], f"http://127.0.0.1:{free_port()}"], 0, STARTED)
    with opened(tmp_path) as client:
        answer = searched(client, files=photo())
    assert answer.status_code == 200
    assert "immr-1 answered, immr-2 did not." in answer.text


def test_a_search_that_is_dropped_for_newer_ones_says_so() -> None:
    async def dropped(silent: str) -> str:
        versions, search = VariantSearch(), PreviewSearch(3, text="red")
        variants = [Variant("champion", silent, "immr-1", 1.0)]
        oldest = versions.start(variants, search)
        waiting = asyncio.create_task(oldest.more_than(0))
        while versions.running(oldest.id) is not None:
            versions.start(variants, search)
        await waiting
        [answer] = oldest.answers
        await versions.close()
        return answer.problem

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections and never answers
        assert "Search again." in asyncio.run(dropped(f"http://127.0.0.1:{server.getsockname()[1]}"))


@pytest.mark.parametrize("rules", [PICTURES, replace(PICTURES, allow_private=True)])
def test_a_catalogue_url_is_read_from_public_addresses_only(rules: PictureRules) -> None:
    """A version redirects to the URL in the catalogue, which may name a service of the private network."""

    async def shown(url: str) -> tuple[bytes, str] | None:
        versions = VariantSearch(rules)
        found = await versions.image(Variant("champion", url, "immr-1", 1.0), "item-1")
        await versions.close()
        return found

    async def redirected(request: Request) -> Response:
        return RedirectResponse(f"{inside.url}/picture")

    with stand_in() as version, stand_in() as inside:
        version.answer = redirected
        inside.says(200, picture(3), "text/html")
        found = asyncio.run(shown(version.url))
        assert version.asked == ["/v1/items/item-1/image"]
        if rules.allow_private:
            assert found == (picture(3), "image/jpeg"), "the content tells the media type, not a header"
        else:
            assert found is None and inside.asked == []
        inside.says(200, b"<script>", "image/svg+xml")
        assert asyncio.run(shown(version.url)) is None


def test_filters_are_passed_on_one_by_one(page: TestClient, upstreams: list[str]) -> None:
    answer = searched(page, data={"text": "jar", "filters": "price:1..4; -category:Fruit;"})
    assert "--form-string filter=price:1..4" in answer.text
    call = api_call(upstreams[0], PreviewSearch(3, text="jar", filters=["price:1..4", "-category:Fruit"]))
    assert "--form-string filter=price:1..4 \\\n  --form-string filter=-category:Fruit" in call


def test_hits_of_one_group_are_one_hit_with_its_members(page: TestClient) -> None:
    answer = searched(page, data={"text": "jar", "group_by": " category ", "k": "12"})
    assert "--form-string group_by=category" in answer.text
    assert answer.text.count('<li class="hit">') == 2 * len(CATEGORIES)
    for title in TITLES:
        assert answer.text.count(title) >= 2, "each version shows each item, as a hit or as a member"
    assert "also " in text(answer.text)


def test_a_value_with_a_semicolon_is_one_filter() -> None:
    assert filters_in(r"brand:Salt\;Pepper ; ; price:..5;") == ["brand:Salt;Pepper", "price:..5"]


def test_the_api_call_is_the_same_search(page: TestClient) -> None:
    shown = searched(page, data={"text": "it's red", "category": "Fruit"}).text
    assert "https://search.example/v1/search" in shown
    assert 'href="https://search.example/docs"' in shown
    call = api_call("http://api", PreviewSearch(3, b"photo", "image/jpeg", text="it's red"))
    assert call.split(" \\\n  ") == [
        "curl -s http://api/v1/search",
        "-H 'x-immr-variant: preview'",
        "-F image=@photo.jpg",
        "--form-string 'text=it'\"'\"'s red'",
        "--form-string k=3",
    ]


def test_the_api_call_sends_a_text_and_never_a_file(tmp_path: Path, upstreams: list[str]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    before = len(seen_by(upstreams[0])["searches"])
    call = api_call(upstreams[0], PreviewSearch(3, text=f"@{secret}"))
    subprocess.run(["bash", "-c", call], check=True, capture_output=True)
    [search] = seen_by(upstreams[0])["searches"][before:]
    assert search["text"] == f"@{secret}", search


def test_parts_of_a_photo_are_proposed_and_searched_for(page: TestClient, upstreams: list[str]) -> None:
    html = page.post("/photo-parts", files=photo()).text
    boxes = re.findall(r'data-box="([^"]+)"', html)
    assert boxes == [region["box"] for region in REGIONS]
    assert html.count('aria-pressed="false"') == 2 and "0.81" in html
    shown = searched(page, files=photo(), data={"box": boxes[0]}).text
    assert f"--form-string box={boxes[0]}" in shown
    assert seen_by(upstreams[0])["searches"][-1]["box"] == boxes[0]
    assert page.post("/photo-parts", data={"sample": "0"}).text == html
    searched(page, data={"item_id": "item-1", "box": boxes[0]})
    assert "box" not in seen_by(upstreams[0])["searches"][-1], "an item has no parts"


def test_a_photo_without_parts_is_searched_as_a_whole(
    page: TestClient, tmp_path: Path, upstreams: list[str]
) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    for content in (buffer.getvalue(), b"no picture", b"", b"\xff\xd8" + bytes(10 * 1024 * 1024)):
        answer = page.post("/photo-parts", files=photo(content))
        assert (answer.status_code, answer.text.strip()) == (200, "")
    fill(tmp_path, [f"http://127.0.0.1:{free_port()}", upstreams[1]], 0, STARTED)
    with opened(tmp_path) as client:
        assert "data-box" in client.post("/photo-parts", files=photo()).text, "another version proposes them"


def test_categories_are_suggested_with_what_is_above_them() -> None:
    categories = {"a": "Packages/Milk", "b": "Packages/Milk", "c": "Fruit"}
    assert suggested_categories(categories) == ["Fruit", "Packages", "Packages/Milk"]
