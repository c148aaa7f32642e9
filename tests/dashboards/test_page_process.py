"""The page as a process of its own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def test_the_page_logs_one_json_object_per_line(tmp_path: Path) -> None:
    """Its log was text whatever IMMR_LOG_FORMAT was, also the lines of its web server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "dashboards", "--port", str(taken.getsockname()[1])],
            env={**os.environ, "IMMR_HOME": str(tmp_path), "IMMR_LOG_FORMAT": "json"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode != 0
    assert any(each["level"] == "error" and "address already in use" in each["message"] for each in lines)
