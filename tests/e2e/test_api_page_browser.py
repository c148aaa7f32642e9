"""A front-end developer puts the page of docs/api-clients.md on another origin, as written there, in a real browser.

`tests/serving/scenarios/test_api_doc.py` runs the developer's other examples: `curl` and `immr.client`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from immr.experiment.file import save
from immr.settings import Settings
from immr.wiring import connect
from serving.process.options import ServingOptions
from tests.support import tiny_version
from tests.support.in_process import ready_version, serve, served_gateway
from tests.support.patience import until
from tests.support.shopper import alone

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect, sync_playwright

expect.set_options(timeout=60_000)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]
DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "api-clients.md"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE_MS = 60_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def shop_url(settings: Settings) -> Iterator[str]:
    """The documented page, and a gateway that lets its origin search."""
    [html] = re.findall(r"```html\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    page = ""
    app = FastAPI()

    @app.get("/", response_class=HTMLResponse)
    def documented() -> str:
        return page

    @app.get("/favicon.ico", status_code=204)
    def icon() -> None:
        """Browsers ask for one, and log an error without."""

    shop = serve(app)
    folder = tiny_version.write_packaged(settings.home / "immr-1")
    tiny_version.build_index(settings, folder, tiny_version.items(settings.home / "pictures"))
    with ready_version(settings, folder) as bento:
        save(alone(bento), settings.experiment_file)
        with served_gateway(settings, options=ServingOptions(cors_origins=shop.url)) as gateway:
            page = html.replace("http://127.0.0.1:8080", str(gateway.base_url).rstrip("/"))
            yield shop.url
    shop.stop()


@pytest.fixture
def page(shop_url: str) -> Iterator[Page]:
    """The page in a browser that logs no error."""
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(shop_url)
        yield page
        browser.close()
    assert [text for text in wrong if "422" not in text] == []


def search(page: Page) -> dict[str, Any]:
    """Presses the button, and returns the answer that the page got."""
    with page.expect_response("**/v1/search") as response:
        page.get_by_role("button", name="Search").click()
    answer: dict[str, Any] = response.value.json()
    return answer


def test_a_developer_follows_the_docs(page: Page, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(tiny_version.photo("red"))
    page.set_input_files("[name=image]", tmp_path / "photo.jpg")
    search(page)
    expect(page.locator("li")).to_have_count(5)
    expect(page.locator("li a").first).to_have_text("a red thing")
    drawn = "image => image.decode().then(() => image.naturalWidth)"
    assert page.locator("li img").first.evaluate(drawn) == 48

    page.get_by_label("Words").fill("blue")
    assert any(hit["score_parts"].get("words") for hit in search(page)["hits"])

    page.get_by_label("Words").fill("")
    page.get_by_label("Category", exact=True).select_option("Warm/Red")
    search(page)
    expect(page.locator("li")).to_have_count(1)
    expect(page.get_by_label("Category", exact=True).locator("option", has_text="Other/1 (1)")).to_have_count(
        1
    )

    page.get_by_label("Category", exact=True).select_option("")
    page.get_by_label("Highest price").fill("2")
    page.get_by_label("one per category").check()
    assert [hit["group"] for hit in search(page)["hits"]] == ["Warm/Red", "Other/1"]
    expect(page.locator("li")).to_have_count(2)

    page.get_by_role("link", name="a red thing").click()
    log = connect(settings).events
    until(lambda: any(row["clicked"] for row in log.joined().to_pylist()))
    assert {row["item_id"] for row in log.joined().to_pylist() if row["clicked"]} == {"red"}
    log.close()


def test_groups_by_keyboard_on_a_phone(page: Page, settings: Settings) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    page.get_by_label("one per category").evaluate("box => { box.value = 'shade'; }")
    page.get_by_label("Words").fill("thing")
    page.get_by_label("one per category").focus()
    page.keyboard.press("Space")
    with page.expect_response("**/v1/search") as response:
        page.keyboard.press("Enter")
    hits = response.value.json()["hits"]
    assert sorted(str(hit["group"]) for hit in hits) == ["None", "cold", "warm"]
    expect(page.locator("li")).to_have_count(3)
    expect(page.locator("li a")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"

    [warm] = [hit for hit in hits if hit["group"] == "warm"]
    page.get_by_role("link", name=warm["members"][0]["title"]).focus()
    page.keyboard.press("Enter")
    assert page.url.endswith(f"#{warm['members'][0]['item_id']}")
    log = connect(settings).events
    until(lambda: any(row["clicked"] for row in log.joined().to_pylist()))
    assert {row["item_id"] for row in log.joined().to_pylist() if row["clicked"]} == {warm["item_id"]}
    log.close()


def test_words_alone_and_what_is_refused(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Words").fill("yellow")
    page.get_by_label("Highest price").fill("0.01")
    assert search(page)["hits"] == []
    expect(page.get_by_role("status")).to_have_text("No items found.")
    for label in ("Words", "Highest price"):
        page.get_by_label(label).fill("")

    assert "image" in search(page)["detail"]
    expect(page.get_by_role("status")).to_contain_text("image")
    page.get_by_label("Words").fill("yellow")
    search(page)
    expect(page.locator("li a").first).to_have_text("a yellow thing")
    (tmp_path / "notes.jpg").write_text("not a picture")
    page.set_input_files("[name=image]", tmp_path / "notes.jpg")
    search(page)
    expect(page.get_by_role("status")).to_contain_text("picture")
