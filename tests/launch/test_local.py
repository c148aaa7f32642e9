"""`torchrun` on this machine: outputs, error messages, and that no process is left behind."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import pytest

from immr.errors import TrainingError
from immr.launch.launcher import TrainingJob
from immr.launch.local import LocalLauncher, _reason, _stream
from immr.model.encoders.onnx_graph import encoder_graph
from immr.model.model_card import Card
from immr.train.job import TrainJob
from tests.support import patience, tiny_training_set
from tests.support.tiny_training_set import MODEL, TRAIN


def _job(folder: Path, cache_dir: Path, **changes: object) -> Path:
    (folder / "ts").mkdir()
    tiny_training_set.write(folder / "ts", photos_per_class=4)
    recipe = dataclasses.replace(TRAIN, processes=2, **changes)
    model = dataclasses.replace(MODEL, fusion="image")
    encoder_graph(model, cache_dir)  # so that the processes find it
    job = TrainJob(
        folder / "ts", folder / "version", folder / "ck", cache_dir, "tiny", model, recipe, "key", "tiny"
    )
    job.write(folder / "job.json")
    return folder / "job.json"


def _processes_mentioning(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


@pytest.mark.slow
def test_two_processes_make_a_version_and_leave_nothing_else(tmp_path, cache_dir, capfd, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    job_file = _job(tmp_path, cache_dir)
    monkeypatch.setenv("TMPDIR", str(temporary))
    LocalLauncher().run(TrainingJob("tiny", job_file, processes=2))
    assert not list(temporary.glob("torchelastic_*"))
    assert Card.read(tmp_path / "version").key == "key"
    assert "epoch 4 of 4" in capfd.readouterr().err


@pytest.mark.slow
def test_a_failure_reports_its_reason(tmp_path, cache_dir):
    job_file = _job(tmp_path, cache_dir)
    (tmp_path / "ts" / "manifest.json").unlink()
    with pytest.raises(TrainingError, match=r"training tiny failed \(exit code 1\): .*is not a training set"):
        LocalLauncher().run(TrainingJob("tiny", job_file, processes=1))
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(TrainingError, match=r"last lines were[\s\S]*KeyError: 'training_set'\Z"):
        LocalLauncher().run(TrainingJob("tiny", broken, processes=2))
    with pytest.raises(TrainingError, match=r"job file .* does not exist"):
        LocalLauncher().run(TrainingJob("tiny", tmp_path / "gone.json", processes=1))


def test_a_reason_is_found_among_the_last_restarts():
    torchrun = "E1129 torch/distributed/elastic/api.py:1002] failed (exitcode: 1)"
    lines = deque([torchrun, torchrun, "Traceback", "KeyError: 'a'", torchrun, "train FAILED", "======"])
    assert _reason(lines) == "its last lines were\nTraceback\nKeyError: 'a'"


def test_an_unterminated_last_line_is_kept():
    source, sink = os.pipe()
    os.write(sink, b"epoch 1\nKilled")
    os.close(sink)
    lines: deque[str] = deque()
    _stream(source, lines, threading.Event())
    os.close(source)
    assert list(lines) == ["epoch 1", "Killed"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGKILL, -signal.SIGKILL),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_training_ends_with_the_process_that_started_it(tmp_path, cache_dir, number, code):
    job_file = _job(tmp_path, cache_dir, epochs=1_000_000)
    script = (
        "import signal, sys\nfrom pathlib import Path\nfrom immr.launch.local import LocalLauncher\n"
        "from immr.launch.launcher import TrainingJob\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # otherwise ignored in the background
        "try: LocalLauncher().run(TrainingJob('tiny', Path(sys.argv[1]), 2))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    command = [sys.executable, "-c", script, str(job_file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stderr is not None
        any("epoch 2 of" in line for line in launcher.stderr)
        assert len(_processes_mentioning(str(job_file))) >= 4  # the launcher, torchrun, two ranks
        launcher.send_signal(number)
        assert "Traceback" not in launcher.stderr.read()
        assert launcher.wait(30) == code
    patience.until(lambda: _processes_mentioning(str(job_file)) == [], timeout_s=30)
    assert not (tmp_path / "version").exists()
