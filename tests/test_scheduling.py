import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
from tests.support.scheduling import RoomsAndOneSpark, end_of

def pytest_xdist_make_scheduler(config, log):
    return RoomsAndOneSpark(config, log)

def pytest_handlecrashitem(crashitem, report):
    report.longrepr = f"{report.longrepr} ({end_of(report.node.gateway._io.popen)})"
"""
DIES = """
import os, signal

def test_ends_its_process():
    os.kill(os.getpid(), signal.SIGKILL)
"""
PASSES = "".join(f"def test_{n}():\n    pass\n" for n in range(3))


def test_the_others_still_run_when_a_process_dies(tmp_path: Path) -> None:
    for number in range(12):
        room = tmp_path / "checks" / f"room_{number // 4}"
        room.mkdir(parents=True, exist_ok=True)
        (room / f"test_{number}.py").write_text(PASSES + (DIES if number == 7 else ""))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra -p no:schemathesis -p no:cov\n")

    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n2", "--dist=loadfile", "--no-loadscope-reorder", "-q", "checks"],
        cwd=tmp_path,
        env=ours | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert "1 failed, 36 passed" in run.stdout
    assert "crashed while running 'checks/room_1/test_7.py::test_ends_its_process' (SIGKILL)" in run.stdout
