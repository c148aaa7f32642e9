import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
from tests.support.scheduling import RoomsAndOneSpark

def pytest_xdist_make_scheduler(config, log):
    return RoomsAndOneSpark(config, log)
"""
ENDS = "import os\n\ndef test_ends_its_process():\n    os._exit(1)\n"
DEADLY = 7
PASSES = "".join(f"def test_{n}():\n    pass\n" for n in range(3))


def test_a_dead_process_fails_one_test_and_the_others_still_run(tmp_path: Path) -> None:
    for number in range(12):
        room = tmp_path / "checks" / f"room_{number // 4}"
        room.mkdir(parents=True, exist_ok=True)
        (room / f"test_{number}.py").write_text(PASSES + (ENDS if number == DEADLY else ""))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:schemathesis -p no:cov\n")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n2", "--dist=loadfile", "--no-loadscope-reorder", "-q", "checks"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "1 failed, 36 passed" in run.stdout
    assert "crashed while running 'checks/room_1/test_7.py" in run.stdout
