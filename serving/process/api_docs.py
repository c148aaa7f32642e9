"""The page to try the API, at `/docs`: Swagger UI from this folder, because a network may have no way to a CDN."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

FILES = Path(__file__).parent / "third-party" / "swagger-ui"
_ICON = "data:,"  # none, so that the browser asks for none


def add_api_docs(app: FastAPI) -> None:
    """Adds `/docs`. Its addresses are relative, so that it also works behind a path prefix."""
    app.mount("/docs/static", StaticFiles(directory=FILES), name="api-docs")

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url=_ICON,
        )
