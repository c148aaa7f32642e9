"""Runs the examples of the API's pages in docs/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import http_client, tiny_version

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = "\n".join((DOCS / name).read_text() for name in ("api.md", "api-clients.md", "serving.md"))
EXAMPLES = re.findall(r"```bash\n(.*?)```", PAGES, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.strip().splitlines()[-1][:60])
def test_the_example_runs(example: str, gateway_url: str, bento_url: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(tiny_version.photo("red"))
    script = example.replace("http://127.0.0.1:8080", gateway_url).replace("http://127.0.0.1:3001", bento_url)
    command = ["bash", "-euo", "pipefail", "-c", script]
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_names_every_path(gateway_url: str) -> None:

    paths = http_client.get(f"{gateway_url}/openapi.json").json()["paths"]
    assert [path for path in paths if path not in PAGES] == []
