"""The page in a real browser, with page and versions in separate processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from immr.experiment.file import load
from immr.experiment.history import TestEvent, append
from tests.support.page_home import STARTED, add_drift, add_history, add_reports, fill
from tests.support.patience import until
from tests.support.upstream_process import REGIONS, free_port, picture, process_on, seen_by, upstream

pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]
PATIENCE_MS = 180_000  # a busy machine is not the page's fault
expect.set_options(timeout=PATIENCE_MS)
CONTRAST = """names => {
    const light = name => {
        const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
        const parts = [0, 2, 4].map(at => parseInt(hex.slice(at, at + 2), 16) / 255)
            .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const [low, high] = names.map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
}"""
CUT = """() => [...document.querySelectorAll("main td, main th[scope=row], main p, main dd, main .hit")]
    .filter(each => !each.closest(".sr") && each.getClientRects().length)
    .filter(each => each.scrollWidth > each.clientWidth + 1 || each.getBoundingClientRect().right > innerWidth)
    .map(each => each.outerHTML.slice(0, 200))"""
VERSIONS = ("immr-1", "immr-2")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    path.write_bytes(picture(5))
    return path


@pytest.fixture(scope="module")
def versions() -> Iterator[list[str]]:
    with upstream("champion", VERSIONS[0]) as first, upstream("challenger", VERSIONS[1]) as second:
        yield [first, second]


@contextmanager
def served_page(home: Path, samples: Path, **environment: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "dashboards", f"--port={port}", f"--samples={samples}"]
    with process_on(port, *command, env=os.environ | {"IMMR_HOME": str(home)} | environment) as url:
        yield url


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, versions: list[str], photo: Path) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    fill(home, versions, 600, STARTED)
    add_reports(home)
    add_drift(home)
    add_history(home)
    links = {"IMMR_GRAFANA_LINK": "https://grafana.example", "IMMR_DOCS_LINK": "https://docs.example"}
    with served_page(home, photo.parent, **links) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The opened page; afterwards checks that it contacted no other host and logged no error."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((address, "blob:"))] == []
    assert wrong == []


def expect_both_answers(page: Page) -> None:
    expect(page.locator("#search-status")).to_contain_text("Both versions answered.")
    expect(page.locator(".version")).to_have_count(2)
    expect(page.locator(".hit")).to_have_count(10)
    for number, version in enumerate(VERSIONS):
        expect(page.locator(".version h2").nth(number)).to_contain_text(version)


def open_everything(page: Page, address: str, photo: Path) -> None:
    """The page with answers and all sections, with everything unfolded except the reports' own details."""
    page.goto(address)
    page.set_input_files("#photo", photo)
    page.get_by_role("button", name="Part 1 of the photo").click()
    expect(page.locator("#api-call code")).to_contain_text("box=")
    expect_both_answers(page)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    page.evaluate(
        "document.querySelectorAll('details:not(.report details)').forEach(each => each.open = true)"
    )


def test_an_uploaded_photo_gets_both_answers(page: Page, photo: Path, versions: list[str]) -> None:
    page.set_input_files("#photo", photo)
    expect_both_answers(page)
    expect(page.get_by_alt_text("The photo you search with")).to_be_visible()
    drawn = "image => image.decode().then(() => image.naturalWidth)"
    assert page.locator(".hit img").first.evaluate(drawn) == 160
    assert seen_by(versions[0])["searches"][-1]["preview"] == "preview"


def test_a_dropped_photo_gets_both_answers(page: Page) -> None:
    page.evaluate(
        """async () => {
            const bytes = await (await fetch("/samples/0")).blob();
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
            const event = new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true });
            document.getElementById("drop").dispatchEvent(event);
        }"""
    )
    expect_both_answers(page)


def test_samples_and_options_by_keyboard(page: Page, photo: Path) -> None:
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#search-status")).to_have_text("Choose a photo or type words first.")
    page.get_by_role("button", name="Sample photo 1").focus()
    page.keyboard.press("Enter")
    expect_both_answers(page)
    page.get_by_label("Hits").select_option("3")
    page.get_by_role("button", name="Search", exact=True).press("Enter")
    expect(page.locator(".hit")).to_have_count(6)


def test_a_file_that_is_not_a_picture_gets_a_sentence(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    page.set_input_files("#photo", tmp_path / "notes.jpg")
    expect(page.locator("#search-status")).to_have_text("No version gave an answer.")
    expect(page.locator(".problem").first).to_have_text("That is not a JPEG, PNG or WebP picture.")


def test_a_screen_reader_learns_once_that_figures_are_being_updated(page: Page) -> None:
    page.add_init_script(
        "addEventListener('DOMContentLoaded', () => document.querySelector('#ctr').ariaBusy = 'true')"
    )
    page.reload()
    status, swapped = page.locator("#sections-status"), "dispatchEvent(new Event('htmx:afterSwap'))"
    expect(status).to_contain_text("Updating: ")
    page.evaluate(f"document.querySelector('#ctr').ariaBusy = null; document.{swapped}")
    expect(status).to_have_text("All figures are up to date.")
    page.evaluate(f"document.querySelector('#ctr').ariaBusy = 'true'; document.{swapped}")
    expect(status).to_have_text("All figures are up to date.")


def test_sections_refresh_and_keep_open_details(page: Page) -> None:
    for section in ("ctr", "readout", "places", "latency", "models", "reports"):
        expect(page.locator(f"#{section}")).to_be_visible()
        expect(page.locator(f"#{section}")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#ctr svg.chart:visible")).to_have_count(1)
    expect(page.locator("#readout .decision")).to_contain_text("The challenger is better")
    expect(page.locator("#readout")).to_contain_text("All metrics, challenger against champion")
    expect(page.locator("#places svg.chart")).to_have_count(1)
    page.get_by_text("The same as a table").click()
    page.evaluate("document.querySelector('#ctr').setAttribute('hx-get', '/sections/ctr?seen=old')")
    page.evaluate("htmx.process(document.querySelector('#ctr')); htmx.trigger(document.body, 'refresh')")
    expect(page.locator("#ctr[hx-get$='old']")).to_have_count(0)
    expect(page.locator("#ctr-figures")).to_have_attribute("open", "")


def test_more_like_this_and_words_by_keyboard(page: Page, versions: list[str]) -> None:
    page.get_by_label("Words", exact=True).fill("red pepper")
    page.keyboard.press("Enter")
    expect_both_answers(page)
    assert seen_by(versions[0])["searches"][-1]["text"] == "red pepper"
    like = page.get_by_role("button", name="More like").first
    like.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#preview")).to_be_visible()
    asked = until(
        lambda: next((each for each in seen_by(versions[0])["searches"] if "item_id" in each), None)
    )
    assert asked and "text" not in asked
    page.get_by_text("The same search as an API call").click()
    expect(page.locator("#api-call code")).to_contain_text(f"--form-string item_id={asked['item_id']}")
    page.get_by_role("button", name="Remove the photo").press("Enter")
    expect(page.locator("#preview")).to_be_hidden()


def searched_box(versions: list[str]) -> str | None:
    box: str | None = seen_by(versions[0])["searches"][-1].get("box")
    return box


def test_a_part_of_a_photo_is_chosen_by_keyboard_and_given_up(
    page: Page, photo: Path, versions: list[str]
) -> None:
    page.set_input_files("#photo", photo)
    expect_both_answers(page)
    part = page.get_by_role("button", name="Part 2 of the photo")
    part.focus()
    page.keyboard.press("Enter")
    expect(part).to_have_attribute("aria-pressed", "true")
    box = REGIONS[1]["box"]
    expect(page.locator("#api-call code")).to_contain_text(f"--form-string box={box}")
    assert searched_box(versions) == box
    page.get_by_role("button", name="Search for the whole photo").press("Enter")
    expect(part).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#api-call code")).not_to_contain_text("box=")
    assert searched_box(versions) is None
    page.get_by_role("button", name="More like").first.click()
    expect(page.get_by_role("button", name="Part 1 of the photo")).to_have_count(0)


def test_a_part_is_drawn_with_the_mouse(page: Page, photo: Path, versions: list[str]) -> None:
    page.set_input_files("#photo", photo)
    expect_both_answers(page)
    expect(page.locator("#photo-parts .part")).to_have_count(2)
    frame = page.locator("#preview").bounding_box()
    assert frame
    page.mouse.move(frame["x"] + 0.9 * frame["width"], frame["y"] + 0.1 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.4 * frame["width"], frame["y"] + 0.6 * frame["height"], steps=3)
    page.mouse.up()
    expect(page.locator("#drawn")).to_be_visible()
    expect(page.locator("#api-call code")).to_contain_text("box=")
    expect_both_answers(page)
    drawn = searched_box(versions)
    assert drawn
    assert [float(share) for share in drawn.split(",")] == pytest.approx([0.4, 0.1, 0.5, 0.5], abs=0.01)
    part = page.get_by_role("button", name="Part 2 of the photo")
    part.press("Enter")
    expect(part).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#drawn")).to_be_hidden()
    page.mouse.click(frame["x"] + 0.2 * frame["width"], frame["y"] + 0.8 * frame["height"])
    assert page.locator("#box").input_value() == REGIONS[1]["box"], "a click outside the frames draws nothing"


def test_a_part_is_tapped_on_a_phone(
    browser: Browser, address: str, photo: Path, versions: list[str]
) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.goto(address)
    page.set_input_files("#photo", photo)
    part = page.get_by_role("button", name="Part 1 of the photo")
    part.tap()
    expect(part).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#api-call code")).to_contain_text(f"box={REGIONS[0]['box']}")
    whole, first = page.locator("#preview").bounding_box(), part.bounding_box()
    assert whole and first
    assert whole["x"] >= 0 and whole["x"] + whole["width"] <= 360
    assert first["x"] == pytest.approx(whole["x"] + 0.05 * whole["width"], abs=1)
    assert first["height"] == pytest.approx(0.5 * whole["height"], abs=1)
    page.close()


def test_terms_explain_themselves_on_hover_and_focus(page: Page) -> None:
    term = page.locator("#readout .term", has_text="Sample ratio")
    term.hover()
    expect(page.locator("#tip")).to_contain_text("its planned share of the users")
    page.keyboard.press("Escape")
    expect(page.locator("#tip")).to_be_hidden()
    term.focus()
    expect(page.locator("#tip")).to_be_visible()
    described = term.get_attribute("aria-describedby")
    expect(page.locator(f"#{described}")).to_contain_text("its planned share of the users")


def test_links_lead_to_the_configured_places(page: Page) -> None:
    places = page.get_by_role("navigation", name="Links")
    expect(places.get_by_role("link")).to_have_text(["Grafana", "Documentation"])


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing(browser: Browser, address: str, photo: Path, scheme: str, width: int) -> None:
    """With everything open: answers, tables, glossary."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    open_everything(page, address, photo)
    results = Axe().run(page, options={"iframes": False})
    assert results.violations_count == 0, results.generate_report()
    page.close()


@pytest.mark.slow
def test_a_version_that_hangs_and_one_that_is_down(
    browser: Browser, tmp_path: Path, versions: list[str], photo: Path
) -> None:
    with upstream("challenger", VERSIONS[1], "--hangs") as frozen:
        fill(tmp_path, [versions[0], frozen, f"http://127.0.0.1:{free_port()}"], 0, STARTED)
        with served_page(tmp_path, photo.parent) as url:
            page = browser.new_page()
            page.goto(url)
            page.set_input_files("#photo", photo)
            expect(page.locator(".hit")).to_have_count(5)
            expect(page.locator("#search-status")).to_contain_text("waiting for immr-2")
            expect(page.locator(".version[aria-busy=true]")).to_contain_text("has not answered yet")
            expect(page.locator(".version").nth(2)).to_contain_text("Nothing answers at")
            page.request.post(f"{frozen}/go")
            expect(page.locator(".hit")).to_have_count(10)
            expect(page.locator("#search-status")).to_contain_text("immr-1, immr-2 answered, immr-3 did not.")
            page.close()


@pytest.mark.slow
def test_a_button_needs_the_key_and_runs_its_command(
    browser: Browser, tmp_path: Path, versions: list[str], photo: Path
) -> None:
    fill(tmp_path, versions, 50, STARTED)
    (tmp_path / "page.key").write_text("the key of this page")
    file = tmp_path / "experiment" / "experiment.json"
    with served_page(tmp_path, photo.parent, IMMR_PAGE_KEY_FILE=str(tmp_path / "page.key")) as url:
        page = browser.new_page()
        page.goto(url)
        page.get_by_text("Stop the test").click()
        run = page.get_by_role("button", name="Run immr experiment stop")
        run.click()
        expect(page.locator("#outcome")).to_contain_text("That is not the page's key.")
        assert load(file).state == "running"
        page.get_by_label("Page key").fill("the key of this page")
        run.press("Enter")
        expect(page.locator("#outcome")).to_contain_text("is done")
        assert load(file).state == "stopped"
        expect(page.locator("#readout")).to_contain_text("Start a test")
        expect(page.get_by_label("Page key")).to_have_value("the key of this page")
        page.close()


def test_the_keyboard_reaches_the_search_and_focus_is_visible(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.url.endswith("#search")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "photo"
    ring = "getComputedStyle(document.querySelector('label.button')).outlineStyle"
    assert page.evaluate(ring) == "solid"


def test_a_screen_reader_finds_names_and_tables(page: Page) -> None:
    expect(page.locator("#readout .decision")).to_be_visible()
    for section in ("ctr", "readout", "places", "latency", "models", "reports"):
        assert page.locator(f"#{section}").get_attribute("aria-labelledby") == f"{section}-heading"
    assert page.locator("svg[role=img]:not([aria-labelledby])").count() == 0
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    expect(page.locator("#search-status")).to_have_attribute("aria-live", "polite")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, address: str, scheme: str) -> None:
    """WCAG 2.1 AA: 4.5 : 1 for the colours that the browser computes."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    pairs = [
        ("--ink", "--card"), ("--quiet", "--card"), ("--quiet", "--sunk"), ("--accent", "--card"),
        ("--good", "--good-soft"), ("--bad", "--bad-soft"), ("--wait", "--wait-soft"),
        ("--on-accent", "--accent"),
    ]  # fmt: skip
    for text, ground in pairs:
        assert page.evaluate(CONTRAST, [text, ground]) >= 4.5, (text, ground)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_vertically_only(browser: Browser, address: str, photo: Path, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
    open_everything(page, address, photo)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(CUT) == []
    expect(page.locator("#readout tbody td").first).to_have_attribute("data-label", "immr-1 champion")
    page.close()


def test_rows_of_a_closed_table_become_cards_with_names_too(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(address)
    expect(page.locator("#ctr [aria-busy=true]")).to_have_count(0)
    names = [
        cell.get_attribute("data-label")
        for cell in page.locator("#ctr-figures tbody tr").first.locator("td").all()
    ]
    assert names == ["from", "version", "clicks", "impressions", "CTR", "95 % interval"]
    page.close()


def test_times_are_in_the_browsers_zone(browser: Browser, address: str) -> None:
    page = browser.new_page(timezone_id="America/New_York")
    page.goto(address)
    expect(page.locator("#history time").first).to_have_text("01 May 2024 08:00")  # 12:00 UTC
    expect(page.locator("#history caption")).to_contain_text("times in America/New_York")
    expect(page.locator("#ctr .lead")).to_contain_text("(America/New_York)")
    expect(page.locator("#ctr svg:visible text[data-time]").first).to_contain_text("08:0")
    titles = page.locator("#ctr svg:visible .dot title").all_text_contents()
    assert titles and all(", 08:0" in title for title in titles)
    page.close()


def test_many_tests_with_long_names_and_html_are_text(browser: Browser, tmp_path: Path, photo: Path) -> None:
    fill(tmp_path, ["http://127.0.0.1:9"], 0, STARTED)
    html, name = "<img src=x onerror=window.ran=1><script>window.ran=1</script>", "brand-" * 30
    for number in range(7):
        event = TestEvent(STARTED, f"{html}-{number}", "started", html, name, name, 0.5)
        for what in ("started", "kept"):
            append(tmp_path / "experiment" / "history.jsonl", replace(event, what=what, reason=html + name))  # type: ignore[arg-type]
    with served_page(tmp_path, photo.parent) as url:
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.goto(url)
        expect(page.locator("#history tbody tr:visible")).to_have_count(5)
        page.get_by_text("2 earlier tests").click()
        expect(page.locator("#history tbody tr:visible")).to_have_count(7)
        assert page.evaluate("[window.ran, document.documentElement.scrollWidth]") == [None, 360]
        assert page.evaluate(CUT) == []
        page.set_viewport_size({"width": 1280, "height": 900})
        assert page.evaluate(CUT) == []
        page.close()
