import json
import time

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.classifier_steps import Case
from benchmarks.gpu.limits import photos_per_s
from benchmarks.gpu.rows import Report

GROUPS = [group for group in gpu.GROUPS if group != "photos"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("group", [*GROUPS, pytest.param("photos", marks=pytest.mark.slow)])
def test_every_row_runs_on_a_cpu_with_tiny_sizes(group, tmp_path):
    gpu.main(["--tiny", "--only", group, "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows and not [row for row in rows if "error" in row]
    assert all(row.get("holds", True) and row.get("is_finite", True) for row in rows)
    figures = {"correctness": "bound", "photos": "photos_per_s"}
    assert [row.get(figures.get(group, "median_ms"), 0) > 0 for row in rows].count(True) >= len(rows) - 1


@pytest.mark.slow
def test_groups_run_in_processes_of_their_own(tmp_path):
    gpu.main(["--tiny", "--json", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(found["groups"]) == list(gpu.GROUPS) and all(found["groups"].values())


def test_a_row_that_fails_leaves_the_others(tmp_path):
    report = Report(tmp_path / "rows.json", time.monotonic() + 60)
    report.add("bad", lambda: {"ms": 1 / 0})
    report.add("good", lambda: {"ms": 1.0})
    late = Report(None, time.monotonic() - 1)
    late.add("late", lambda: {"ms": 1.0})
    bad, good = json.loads((tmp_path / "rows.json").read_text())
    assert bad["error"].startswith("ZeroDivisionError") and good["ms"] == 1.0
    assert "no time" in late.rows[0]["error"]


def test_a_group_that_crashes_is_noted(monkeypatch):
    monkeypatch.setattr(gpu, "GROUPS", {"crash": None})
    found = gpu.whole(tiny=True, seconds=60.0)  # the child does not know this group
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
