import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
from tests.support.scheduling import RoomsAndOneSpark, report_death

def pytest_xdist_make_scheduler(config, log):
    return RoomsAndOneSpark(config, log)

def pytest_handlecrashitem(crashitem, report, sched):
    report_death(crashitem, report, sched)
"""
DIES = """
import os
from pathlib import Path

def test_ends_its_process():
    deaths = Path("deaths")
    with deaths.open("a") as file:
        file.write("x")
    if len(deaths.read_text()) <= {times}:
        os._exit(1)
"""
PASSES = "".join(f"def test_{n}():\n    pass\n" for n in range(3))


@pytest.mark.parametrize(
    ("times", "outcome", "said"),
    [
        (1, "37 passed, 1 skipped", "its process died (exit status 1), so it ran again"),
        (2, "1 failed, 36 passed, 1 skipped", "crashed while running 'checks/room_1/test_7.py"),
    ],
)
def test_the_others_still_run_when_a_process_dies(
    tmp_path: Path, times: int, outcome: str, said: str
) -> None:
    for number in range(12):
        room = tmp_path / "checks" / f"room_{number // 4}"
        room.mkdir(parents=True, exist_ok=True)
        (room / f"test_{number}.py").write_text(PASSES + (DIES.format(times=times) if number == 7 else ""))
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

    assert outcome in run.stdout
    assert said in run.stdout
