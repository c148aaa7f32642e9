"""A graph is thread-safe from its first run on, and leaves the process able to handle signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import tiny_version

MANY_AT_ONCE = """
import sys, threading
from pathlib import Path
import numpy as np
from immr.model.model_card import QUERY_ENCODER, Card
from immr.model.runtime import Graph

folder = Path(sys.argv[1])
side = Card.read(folder).preprocessing.image_size_px
pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
graph = Graph(folder / QUERY_ENCODER, at_once=2, sizes=(1,))
barrier, found = threading.Barrier(8), []

def search():
    barrier.wait()
    found.extend(graph.run("embedding", pixels) for _ in range(20))

threads = [threading.Thread(target=search) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
expected = graph.run("embedding", pixels)
same = all(np.array_equal(each, expected) for each in found)
print(len(found), same, "openvino_telemetry.main" in sys.modules)
"""


def test_many_threads_can_make_the_first_run(tmp_path: Path) -> None:
    folder = tiny_version.write_files(tmp_path / "version")
    command = [sys.executable, "-c", MANY_AT_ONCE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["160", "True", "False"]


SIGNAL_AFTER_TWO_GRAPHS = """
import os, signal, sys
from pathlib import Path
from immr.model.model_card import QUERY_ENCODER
from immr.model.runtime import Graph

file = Path(sys.argv[1]) / QUERY_ENCODER
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
first, second = Graph(file, sizes=(1,)), Graph(file, sizes=(1,))
del first
del second
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_after_graphs_are_gone(tmp_path: Path) -> None:
    folder = tiny_version.write_files(tmp_path / "version")
    command = [sys.executable, "-c", SIGNAL_AFTER_TWO_GRAPHS, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n")
