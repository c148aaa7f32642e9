"""The page in docs/api.md, on another origin, in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from immr.experiment.definition import save
from immr.settings import Settings
from immr.wiring import connect
from serving.process.options import ServingOptions
from tests.support import tiny_version
from tests.support.in_process import ready_version, serve, served_gateway
from tests.support.patience import until
from tests.support.shopper import alone

pytest.importorskip("playwright")
from playwright.sync_api import expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]
DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "api.md"
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


def test_the_documented_page_searches_and_reports_clicks(
    shop_url: str, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(tiny_version.photo("red"))
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.goto(shop_url, timeout=PATIENCE_MS)
        page.set_input_files("#photo", tmp_path / "photo.jpg")
        expect(page.locator("li")).to_have_count(5, timeout=PATIENCE_MS)
        page.get_by_role("link", name="a red thing").click()
        log = connect(settings).events
        until(lambda: any(row["clicked"] for row in log.joined().to_pylist()))
        clicked = [row["item_id"] for row in log.joined().to_pylist() if row["clicked"]]
        log.close()
        browser.close()
    assert clicked == ["red"]
    assert [text for text in wrong if "favicon" not in text] == []
