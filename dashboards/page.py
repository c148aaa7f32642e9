"""The web page: search side by side, and below it the sections that `sections.py` fills.

Rendered on the server; htmx replaces sections that have changed. The page loads nothing from other hosts, and
searches made here are not counted as impressions.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from dashboards import figures, reports
from dashboards.background import BackgroundCalls
from dashboards.lineage import Lineage
from dashboards.live import Live
from dashboards.page_metrics import PageMetrics
from dashboards.sections import SECTIONS, Sources
from dashboards.variant_search import PreviewSearch, VariantSearch
from immr.errors import ImmrError
from immr.experiment.definition import Variant

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
MAX_PHOTO_BYTES = 10 * 1024 * 1024
SECTION_TIMEOUT_S = 20.0  # the page asks again after it
FIRST_VIEW_S = 0.4  # slower sections load after the page, so that it appears at once
MAX_SAMPLES = 12
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")

_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups; "
    "frame-ancestors 'self'"
)


def create_page(
    live: Live, lineage: Lineage, reports_folder: Path, samples_folder: Path | None = None
) -> FastAPI:
    """The page as an application.

    Args:
        live: The running experiment and its event log.
        lineage: The model versions and the features.
        reports_folder: The published reports of the pipeline's steps.
        samples_folder: Photos to offer as samples; a few of them are picked.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # compute slow sections before the first visitor arrives
        for name in SECTIONS:
            page.background(name)
        yield
        await page.versions.close()

    sources = Sources(live, lineage, reports_folder)
    page = _Page(sources, VariantSearch(), _samples(samples_folder), _templates())
    app = FastAPI(title="IMMR", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.middleware("http")(_with_headers)
    _add_sections(app, page)
    _add_search(app, page)
    _add_files(app, page)
    return app


@dataclass
class _Page:
    """What the routes share."""

    sources: Sources
    versions: VariantSearch
    samples: Sequence[Path]
    templates: Environment

    def render(self, template: str, **values: Any) -> str:
        return self.templates.get_template(template).render(**values)

    @cached_property
    def background(self) -> BackgroundCalls[tuple[Markup, str]]:
        """Sections are rendered in the background, so a slow one never delays searches and pictures."""
        return BackgroundCalls(self.section)

    def section(self, name: str) -> tuple[Markup, str]:
        """A section's content and its fingerprint; an error becomes its sentence."""
        try:
            content = self.render(f"{name}.html", **SECTIONS[name](self.sources))
        except ImmrError as error:
            content = self.render("problem.html", sentence=str(error))
        return Markup(content), hashlib.sha256(content.encode()).hexdigest()[:16]

    def first_view(self) -> dict[str, tuple[Markup, str, bool]]:
        """Each section's content, fingerprint, and whether it is still being computed."""
        asked = {name: self.background(name) for name in SECTIONS}
        wait(asked.values(), FIRST_VIEW_S)
        waiting = Markup(self.render("waiting.html"))
        return {
            name: (*found.result(), False) if found.done() else (waiting, "", True)
            for name, found in asked.items()
        }

    def variant(self, version: str) -> Variant | None:
        return next((one for one in self.sources.live.serving() if one.model_version == version), None)


def _add_sections(app: FastAPI, page: _Page) -> None:
    @app.get("/", response_class=HTMLResponse)
    def whole() -> str:
        return page.render(
            "page.html",
            sections=page.first_view(),
            variants=page.sources.live.serving(),
            samples=range(len(page.samples)),
        )

    @app.get("/sections/{name}", response_class=HTMLResponse)
    async def section(name: str, seen: str = "") -> Response:
        if name not in SECTIONS:
            raise HTTPException(404, f"there is no section {name!r}")
        future = asyncio.wrap_future(page.background(name))
        done, _ = await asyncio.wait([future], timeout=SECTION_TIMEOUT_S)
        if not done or future.result()[1] == seen:
            return Response(status_code=204)
        content, fingerprint = future.result()
        return HTMLResponse(
            page.render("section.html", name=name, content=content, fingerprint=fingerprint, waiting=False)
        )

    @app.get("/health/live")
    def alive() -> PlainTextResponse:
        return PlainTextResponse("ok")

    page_metrics = PageMetrics(page.sources.live, page.sources.lineage)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(page_metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_search(app: FastAPI, page: _Page) -> None:
    async def answers(search: PreviewSearch) -> HTMLResponse:
        variants = await run_in_threadpool(page.sources.live.serving)
        found = await page.versions.search(variants, search)
        answered = [answer for answer in found if not answer.problem]
        return HTMLResponse(
            page.render("answers.html", answers=found, answered=answered, category=search.category),
            502 if found and not answered and not any(answer.refused for answer in found) else 200,
        )

    @app.post("/search", response_class=HTMLResponse)
    async def search(
        image: UploadFile | None = None,
        k: Annotated[int, Form(ge=1, le=50)] = 5,
        category: Annotated[str, Form(max_length=200)] = "",
    ) -> HTMLResponse:
        content = await image.read(MAX_PHOTO_BYTES + 1) if image else b""
        if not content:
            return _sentence(page, "Choose a photo first.", 422)
        if len(content) > MAX_PHOTO_BYTES:
            return _sentence(page, "That photo is larger than 10 MB. Take a smaller one.", 413)
        media_type = (image.content_type if image else None) or "application/octet-stream"
        return await answers(PreviewSearch(content, media_type, k, category.strip()))

    @app.post("/search/samples/{number}", response_class=HTMLResponse)
    async def search_sample(
        number: int,
        k: Annotated[int, Form(ge=1, le=50)] = 5,
        category: Annotated[str, Form(max_length=200)] = "",
    ) -> HTMLResponse:
        path = _sample(page, number)
        content = await run_in_threadpool(path.read_bytes)
        return await answers(PreviewSearch(content, _media_type(path), k, category.strip()))


def _add_files(app: FastAPI, page: _Page) -> None:
    @app.get("/samples/{number}")
    def sample(number: int) -> FileResponse:
        path = _sample(page, number)
        return FileResponse(
            path, media_type=_media_type(path), headers={"cache-control": "private, max-age=300"}
        )

    @app.get("/items/{version}/{item_id:path}/image")
    async def item_image(version: str, item_id: str) -> Response:
        variant = await run_in_threadpool(page.variant, version)
        found = await page.versions.image(variant, item_id) if variant else None
        if found is None:
            return FileResponse(HERE / "static" / "no-picture.svg", 404, media_type="image/svg+xml")
        return Response(found[0], media_type=found[1], headers={"cache-control": "private, max-age=300"})

    @app.get("/reports/{name}")
    def report(name: str) -> FileResponse:
        path = reports.file_of(page.sources.reports_folder, name)
        if path is None:
            raise HTTPException(404, f"there is no report {name!r}; run the pipeline")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY})

    @app.get("/tests/{name}")
    def test_report(name: str) -> FileResponse:
        known = {test.name for test in page.sources.live.history()}
        path = page.sources.live.test_report(name)
        if name not in known or not path.is_file():
            raise HTTPException(404, f"there is no report of a test {name!r}")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY})


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add headers: load nothing from other hosts, and let no other page frame this one."""
    response = await call_next(request)
    response.headers.setdefault("content-security-policy", _POLICY)
    response.headers.setdefault("x-content-type-options", "nosniff")
    response.headers.setdefault("referrer-policy", "no-referrer")
    response.headers.setdefault("cache-control", "no-cache")
    return response


def _sentence(page: _Page, sentence: str, status: int) -> HTMLResponse:
    return HTMLResponse(page.render("refused.html", sentence=sentence), status)


def _sample(page: _Page, number: int) -> Path:
    if not 0 <= number < len(page.samples):
        raise HTTPException(404, "there is no such sample photo")
    return page.samples[number]


def _samples(folder: Path | None) -> Sequence[Path]:
    """Up to a dozen photos, spread evenly over the folder and its subfolders."""
    if folder is None or not folder.is_dir():
        return []
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    if len(found) <= MAX_SAMPLES:
        return found
    return [found[number * len(found) // MAX_SAMPLES] for number in range(MAX_SAMPLES)]


def _media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "image/jpeg"


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = figures.percent
    environment.filters["span"] = figures.span
    environment.filters["leaf"] = lambda category: category.rsplit("/", 1)[-1]
    return environment
