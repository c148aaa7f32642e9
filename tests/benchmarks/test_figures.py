"""The list that `python -m benchmarks` prints, and the file that each benchmark writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.__main__ import benchmarks


def test_every_benchmark_is_listed_with_what_it_measures() -> None:
    found = benchmarks()
    assert {"benchmarks.drift", "benchmarks.shop", "benchmarks.shop.start"} <= set(found)
    assert [name for name, sentence in found.items() if not sentence.endswith((".", "?"))] == []


def test_figures_are_written_with_their_command(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    options = ["benchmarks.evaluation.gate", "--runs", "2", "--json", str(file)]
    subprocess.run([sys.executable, "-m", *options], check=True, stdout=subprocess.PIPE, timeout=300)
    written = json.loads(file.read_text())
    assert written["run"]["command"] == f"python -m {' '.join(options)}"
    assert written["run"]["machine"]["cores"] > 0 and len(written["gate"]) > 1
