"""The screenshots of the page that the docs show, taken with Chromium from a page that is running.

make demo ARGS="--dataset synthetic"                  # in another terminal, until the page is open
python -m benchmarks.screenshots                      # writes docs/images/page.png and page-phone.png
python -m benchmarks.screenshots --page http://127.0.0.1:8081 --sample 7 --out docs/images
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE_PX, PHONE_HEIGHT_PX, GAP_PX = 375, 1300, 20
DESKTOP_PX, DESKTOP_HEIGHT_PX = 1080, 1652
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_TIMEOUT_MS = 120_000
_REFRESH_MS = 8_000
"""A section is shown as its last visitor saw it, and the browser asks for the newest every four seconds."""
_LOADED = """images => Promise.all(images
    .filter(image => image.getBoundingClientRect().top < innerHeight) // the others load when scrolled to
    .map(image => image.decode()))"""
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def search(page: Page, address: str, sample: int, hits: int) -> None:
    """Open the page, search with a sample photo, and wait for all answers, frames and sections."""
    from playwright.sync_api import expect

    expect.set_options(timeout=_TIMEOUT_MS)
    page.set_default_timeout(_TIMEOUT_MS)
    page.goto(address)
    page.wait_for_timeout(_REFRESH_MS)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    page.select_option("#k", str(hits))
    with page.expect_response("**/photo-parts"):
        page.locator(f".sample[data-sample='{sample}']").click()
    expect(page.locator("#search-status")).to_contain_text("versions answered")
    page.locator(".hit img").evaluate_all(_LOADED)


def on_phone(page: Page, places: Sequence[str]) -> Image.Image:
    """What a phone shows at each of these places, side by side; an empty place is the top of the page."""
    shown = Image.new("RGB", (len(places) * (PHONE_PX + GAP_PX) - GAP_PX, PHONE_HEIGHT_PX), (128, 128, 128))
    for number, place in enumerate(places):
        page.evaluate(
            "place => scrollTo(0, place && scrollY + document.querySelector(place).getBoundingClientRect().top"
            " - document.querySelector('header').offsetHeight - 10)",
            place,
        )
        shown.paste(Image.open(io.BytesIO(page.screenshot())), (number * (PHONE_PX + GAP_PX), 0))
    return shown


def _save(picture: Image.Image, path: Path) -> None:
    """With 256 colours, which is a quarter of the size."""
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main(
    page: Annotated[str, typer.Option(help="Address of the page.")] = "http://127.0.0.1:8081",
    sample: Annotated[int, typer.Option(help="Which of its sample photos to search with, from 0.")] = 7,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("docs/images"),
) -> None:
    """Take both pictures."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if chromium is None:
        raise typer.BadParameter(f"none of {', '.join(_CHROMIUM)} is on the PATH: install one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        desktop = browser.new_page(viewport={"width": DESKTOP_PX, "height": DESKTOP_HEIGHT_PX})
        search(desktop, page, sample, hits=3)
        _save(Image.open(io.BytesIO(desktop.screenshot())), out / "page.png")
        phone = browser.new_page(
            viewport={"width": PHONE_PX, "height": PHONE_HEIGHT_PX}, color_scheme="dark", has_touch=True
        )
        search(phone, page, sample, hits=5)
        _save(on_phone(phone, ("", "#readout", "#readout .narrow .chart")), out / "page-phone.png")
        browser.close()


if __name__ == "__main__":
    typer.run(main)
