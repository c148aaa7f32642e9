import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.classifier_steps import Case
from benchmarks.gpu.limits import photos_per_s
from benchmarks.gpu.rows import BROKEN, STOPPED, Report, peak

SLOW = ("correctness", "steps", "photos")
GROUPS = [pytest.param(group, marks=pytest.mark.slow if group in SLOW else ()) for group in gpu.GROUPS]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("group", GROUPS)
def test_every_row_runs_on_a_cpu_with_tiny_sizes(group, tmp_path):
    gpu.main(["--tiny", "--only", group, "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())["groups"][group]
    assert rows and not [row for row in rows if "error" in row]
    assert all(row.get("holds", True) and row.get("is_finite", True) for row in rows)
    figures = {"correctness": "bound", "photos": "photos_per_s"}
    assert [row.get(figures.get(group, "median_ms"), 0) > 0 for row in rows].count(True) >= len(rows) - 1


def test_a_group_is_imported_only_when_it_runs():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, benchmarks.gpu.__main__; print(*sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert "benchmarks.gpu.rows" in done.stdout
    assert not {module for module, _ in gpu.GROUPS.values()} & set(done.stdout.split())


@pytest.mark.slow
def test_groups_run_in_processes_of_their_own(tmp_path):
    gpu.main(["--tiny", "--json", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["groups"]) == list(gpu.GROUPS) and all(found["groups"].values())


def test_a_row_that_fails_leaves_the_others(tmp_path):
    file = tmp_path / "rows.json"
    report = Report(file, "some", time.monotonic() + 60)
    report.add("bad", lambda: {"ms": 1 / 0})
    report.add("good", lambda: {"ms": 1.0})
    late = Report(file, "late", time.monotonic() - 1)
    late.add("too late", lambda: {"ms": 1.0})
    groups = json.loads(file.read_text())["groups"]
    bad, good = groups["some"]
    assert bad["error"].startswith("ZeroDivisionError") and good["ms"] == 1.0
    assert "no time" in groups["late"][0]["error"]


CRASHING = """
import os
from pathlib import Path
from benchmarks.gpu.rows import BROKEN, STOPPED, Report, peak
def add(name, measure, row_s=1e6):
    Report(Path("rows.json"), "some", 1e12, resume=True, row_s=row_s).add(name, measure)
add("first", lambda: {"ms": 1.0})
add("killed", lambda: os._exit(9))
add("hanging", lambda: __import__("threading").Event().wait(), row_s=0.2)
add("last", lambda: {"ms": 2.0})
"""


@pytest.mark.slow
def test_a_row_that_ends_its_process_or_hangs_is_noted_and_not_repeated(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(gpu.__file__).parents[2])}
    codes = [
        subprocess.run([sys.executable, "-c", CRASHING], cwd=tmp_path, env=environment).returncode
        for _ in range(3)
    ]
    assert codes == [9, STOPPED, 0]
    rows = json.loads((tmp_path / "rows.json").read_text())["groups"]["some"]
    assert [row["name"] for row in rows] == ["first", "killed", "hanging", "last"]
    assert [row.get("ms") for row in rows] == [1.0, None, None, 2.0]
    assert "the process ended" in rows[1]["error"] and "stopped after" in rows[2]["error"]


def test_a_group_that_a_row_ended_goes_on_in_another_process(tmp_path, monkeypatch):
    file, codes = tmp_path / "gpu.json", iter([BROKEN, 0])

    def run(command, timeout):
        report = Report(file, "some", time.monotonic() + 60, resume=True)
        code = next(codes)
        report.add(f"row before code {code}", lambda: {"ms": 1.0})
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(gpu, "GROUPS", {"some": ("", "")})
    monkeypatch.setattr(gpu.subprocess, "run", run)
    rows = gpu.whole(file, tiny=True, seconds=60.0)["groups"]["some"]
    assert [row["name"] for row in rows] == [f"row before code {code}" for code in (BROKEN, 0)]


def test_a_group_that_crashes_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "GROUPS", {"crash": ("", "")})
    # the child does not know this group
    found = gpu.whole(tmp_path / "gpu.json", tiny=True, seconds=60.0)
    assert found["groups"]["crash"][0]["error"] == "ended with exit code 2"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_sizes_need_a_gpu(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "add --tiny" in capsys.readouterr().err


def test_the_limit_of_a_step_is_memory_traffic_or_arithmetic():
    case = Case("immr", 1_000_000, 128, 2048, 20_000)
    assert case.limit_ms == pytest.approx(1e3 * 6 * 2048 * 20_000 * 128 / 989e12)
    small = Case("immr", 1_000_000, 128, 16, 20_000, optimizer="adamw")
    assert small.limit_ms == pytest.approx(1e3 * 2 * 3 * 20_000 * 128 * 4 / 3.35e12)


def test_the_limit_is_that_of_the_gpu_at_hand(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, bytes_per_s in (
        ("NVIDIA H100 80GB HBM3", 3.35e12),
        ("NVIDIA H200", 4.8e12),
        ("other", 3.35e12),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert peak().bytes_per_s == bytes_per_s


def test_the_limit_of_an_encoder_counts_each_layer():
    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1, bias=False)

        def forward(self, pixels):
            return self.conv(pixels).mean((2, 3)), None

    per_s = photos_per_s(Encoder().requires_grad_(False), 10, trained=False)
    assert per_s == pytest.approx(3.35e12 / (2 * (3 + 4) * 100))
    assert photos_per_s(Encoder(), 10, trained=True) == pytest.approx(per_s / 3)
