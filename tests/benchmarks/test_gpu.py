import json

import pytest

from benchmarks import gpu


def test_it_runs_on_a_cpu_with_tiny_sizes(tmp_path):
    gpu.main(["--tiny", "--json", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert all(each["holds"] for each in found["correctness"])
    assert {cost["case"]["what"] for cost in found["steps"]} == {"immr", "exact", "partial_fc", "plain"}
    assert all(cost["median_ms"] > 0 for cost in found["steps"])
    assert all(rate > 0 for rate in found["photos_per_s"].values())


@pytest.mark.skipif(gpu.torch.cuda.is_available(), reason="there is a GPU")
def test_full_sizes_need_a_gpu(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "add --tiny" in capsys.readouterr().err


def test_the_limit_is_memory_traffic_or_arithmetic():
    case = gpu.Case("immr", 1_000_000, 128, 2048, 20_000)
    assert case.limit_ms == pytest.approx(1e3 * 6 * 2048 * 20_000 * 128 / 989e12)
    small = gpu.Case("immr", 1_000_000, 128, 16, 20_000, optimizer="adamw")
    assert small.limit_ms == pytest.approx(1e3 * 2 * 3 * 20_000 * 128 * 4 / 3.35e12)
