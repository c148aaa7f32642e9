from __future__ import annotations

import re

from fastapi import FastAPI
from starlette.testclient import TestClient

from serving.process.api_docs import FILES, add_api_docs


def test_the_api_page_loads_nothing_from_other_hosts() -> None:
    app = FastAPI(title="search", docs_url=None)
    add_api_docs(app)
    with TestClient(app) as client:
        page = client.get("/docs").text
        assert "http" not in "".join(re.findall(r"""(?:src|href)="([^"]+)""", page))
        addresses = re.findall(r"""(?:src|href)="(docs/[^"]+)""", page)
        assert len(addresses) == 2, "a script and a style"
        for address in addresses:
            assert client.get(f"/{address}").content == (FILES / address.rpartition("/")[2]).read_bytes()
        assert "/docs" not in client.get("/openapi.json").json()["paths"]


def test_the_bundle_is_an_apache_licensed_release() -> None:
    assert "Apache License" in (FILES / "LICENSE").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", (FILES / "VERSION").read_text())
