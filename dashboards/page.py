"""The web page: the search of `search_routes.py`, and below it the sections that `sections.py` fills.

Rendered on the server; htmx replaces sections that have changed. The page loads nothing from other hosts, and
searches made here are not counted as impressions.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from dashboards import chart_data, reports
from dashboards.actions import Actions, Outcome
from dashboards.background import BackgroundCalls
from dashboards.lineage import Lineage
from dashboards.live_experiment import LiveExperiment
from dashboards.page_metrics import PageMetrics
from dashboards.search_routes import PageSearch, add_search, samples_in, suggested_categories
from dashboards.sections import SECTIONS, Sources
from dashboards.variant_search import VariantSearch
from immr.errors import ImmrError
from immr.experiment.definition import Variant
from immr.machine.wording import counted
from immr.registry.reports import pipeline_run_link, tracking_home, tracking_link
from immr.settings import Settings

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SECTION_TIMEOUT_S = 20.0  # the page asks again after it
_UNEXPECTED = "IMMR did not expect this error: the page's log has the traceback."
FIRST_VIEW_S = 0.4  # slower sections load after the page, so that it appears at once

_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox allow-popups; "
    "frame-ancestors 'self'"
)


def create_page(
    settings: Settings, live: LiveExperiment, lineage: Lineage, samples_folder: Path | None = None
) -> FastAPI:
    """The page as an application.

    Args:
        settings: Where the reports are, the addresses to link to, and the page's key.
        live: The running experiment and its event log.
        lineage: The model versions and the features.
        samples_folder: Photos to offer as samples; a few of them are picked.

    Raises:
        SettingsError: The page's key cannot be read, or it is too short.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # compute slow sections before the first visitor arrives
        for name in SECTIONS:
            page.background(name)
        yield
        await page.versions.close()

    actions = Actions(settings, live.experiment, live.decision)
    sources = Sources(
        live,
        lineage,
        settings.home / "reports",
        tracking_link(settings),
        partial(pipeline_run_link, settings),
        actions.enabled,
    )
    samples = samples_in(samples_folder)
    page = _Page(sources, VariantSearch(), samples, _links(settings), _templates())
    app = FastAPI(title="IMMR", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.middleware("http")(_with_headers)
    _add_sections(app, page)
    add_search(app, PageSearch(page.render, page.versions, live.serving, samples, settings.api_link))
    _add_files(app, page)
    _add_actions(app, page, actions)
    return app


def _links(settings: Settings) -> Sequence[tuple[str, str]]:
    """What else there is to open, by name; places without an address are left out."""
    api = f"{settings.api_link.rstrip('/')}/docs" if settings.api_link else ""
    known = {
        "API": api,
        "MLflow": tracking_home(settings),
        "Pipelines": settings.pipelines_link,
        "Grafana": settings.grafana_link,
        "Documentation": settings.docs_link,
    }
    return [(name, address) for name, address in known.items() if address]


@dataclass
class _Page:
    """What the routes share."""

    sources: Sources
    versions: VariantSearch
    samples: Sequence[Path]
    links: Sequence[tuple[str, str]]
    templates: Environment
    rendered: dict[str, tuple[Markup, str]] = field(default_factory=dict)  # each section as it was last

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
        except Exception:  # without this, one section would take the whole page along
            log.exception("the section %s failed", name)
            content = self.render("problem.html", sentence=_UNEXPECTED)
        self.rendered[name] = Markup(content), hashlib.sha256(content.encode()).hexdigest()[:16]
        return self.rendered[name]

    def first_view(self) -> dict[str, tuple[Markup, str, bool]]:
        """Each section's content, its fingerprint, and whether the browser shall load it at once.

        A section that takes longer is shown as it was last, if it was, and marked as being updated.
        """
        asked = {name: self.background(name) for name in SECTIONS}
        wait(asked.values(), FIRST_VIEW_S)
        waiting = Markup(self.render("waiting.html"))
        return {
            name: (*found.result(), False)
            if found.done()
            else (self.rendered[name][0] if name in self.rendered else waiting, "", True)
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
            links=page.links,
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
    async def alive() -> PlainTextResponse:  # not in a thread: they may all wait for the event log or MLflow
        return PlainTextResponse("ok")

    page_metrics = PageMetrics(page.sources.live, page.sources.lineage)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(page_metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _add_files(app: FastAPI, page: _Page) -> None:
    @app.get("/categories", response_class=HTMLResponse)
    def categories() -> str:
        return page.render(
            "categories.html", categories=suggested_categories(page.sources.lineage.categories())
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


def _add_actions(app: FastAPI, page: _Page, actions: Actions) -> None:
    @app.post("/actions", response_class=HTMLResponse)
    def act(
        request: Request,
        label: Annotated[str, Form(max_length=200)],
        command: Annotated[str, Form(max_length=200)],
        revision: Annotated[str, Form(max_length=200)],
        key: Annotated[str, Form(max_length=500)] = "",
    ) -> HTMLResponse:
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise HTTPException(403, "only this page's own buttons may run commands")
        try:
            outcome = actions.run(key, label, command, revision)
        except ImmrError as error:
            outcome = Outcome(500, str(error))
        return HTMLResponse(page.render("outcome.html", outcome=outcome), outcome.status)


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add headers: load nothing from other hosts, and let no other page frame this one."""
    response = await call_next(request)
    response.headers.setdefault("content-security-policy", _POLICY)
    response.headers.setdefault("x-content-type-options", "nosniff")
    response.headers.setdefault("referrer-policy", "no-referrer")
    response.headers.setdefault("cache-control", "no-cache")
    return response


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = chart_data.percent
    environment.filters["ordinal"] = chart_data.ordinal
    environment.filters["span"] = chart_data.span
    environment.filters["moment"] = chart_data.moment
    environment.filters["parsed"] = datetime.fromisoformat
    environment.filters["counted"] = counted
    environment.filters["leaf"] = lambda category: category.rsplit("/", 1)[-1]
    return environment
