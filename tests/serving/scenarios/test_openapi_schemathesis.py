"""schemathesis sends valid and invalid requests made from the OpenAPI, and checks the answers against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
MAX_TIME_S = 20


@pytest.mark.slow
@pytest.mark.parametrize("service", ["bento_url", "gateway_url"])
def test_answers_conform_to_the_openapi(service: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue(service)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "run", f"{url}/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "--max-time", str(MAX_TIME_S), "--seed", "1"]
    command += ["--max-examples", "20", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
