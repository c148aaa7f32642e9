"""Training and encoding on one GPU: correctness against the CPU, then times, peers and the hardware's limit.

    python -m benchmarks.gpu --json gpu.json        # one H100, at most 6 minutes; `make gpu` runs this
    python -m benchmarks.gpu --tiny                 # two minutes on a CPU: a smoke test

Groups of rows, each in a process of its own and with a time of its own:

correctness  losses and gradients of the classifier, features and augmented pictures, against those of the CPU
steps        the classifier's step and its peers
largest      100 million classes on one card
photos       fine-tuning and encoding, pictures per second

The file is written after each row. If a row fails, its error is in the file; if it ends the process or takes more
than 100 s, the group continues with the next row in another process. `limit` is the bound that a row's bytes and
FLOPs set at an H100's 3.35 TB/s and 989 TFLOP/s, `share` the fraction of it that was reached, and `aim` the target.
"""

from __future__ import annotations

import argparse
import importlib
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.rows import LATE_S, ROW_S, Report, machine, read, write

GROUPS = {  # module and function; a module that cannot be imported costs only its own groups
    "correctness": ("benchmarks.gpu.correctness", "run"),
    "steps": ("benchmarks.gpu.classifier_steps", "run"),
    "largest": ("benchmarks.gpu.classifier_steps", "run_largest"),
    "photos": ("benchmarks.gpu.photos", "run"),
}
_MOST_S = {"correctness": 75.0, "steps": 100.0, "largest": 50.0}  # of a group; the last one has what is left
_WHOLE_S = 330.0
_STOPPING_S = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    parser.add_argument("--only", choices=GROUPS, help="one group, in this process")
    parser.add_argument(
        "--seconds",
        type=float,
        default=_WHOLE_S,
        help="start no row after so many seconds; ignored with --tiny",
    )
    parser.add_argument("--json", type=Path, help="write all figures here, after each row")
    parser.add_argument(
        "--resume", action="store_true", help="with --only: keep the group's rows in the file"
    )
    chosen = parser.parse_args(arguments)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        parser.error("there is no GPU here: add --tiny to try the benchmark on a CPU")
    if chosen.only:
        if chosen.json:
            write(chosen.json, read(chosen.json) | machine(device))
        end, row_s = time.monotonic() + chosen.seconds, ROW_S
        if chosen.tiny:  # a busy CPU may take any time
            end = row_s = math.inf
        report = Report(chosen.json, chosen.only, end, chosen.resume, row_s)
        module, function = GROUPS[chosen.only]
        getattr(importlib.import_module(module), function)(report, device, chosen.tiny)
        return
    with TemporaryDirectory() as folder:
        found = whole(chosen.json or Path(folder) / "gpu.json", chosen.tiny, chosen.seconds)
    failed = [row["name"] for rows in found["groups"].values() for row in rows if "error" in row]
    wrong = [row["name"] for rows in found["groups"].values() for row in rows if row.get("holds") is False]
    print(f"{found['seconds']:.0f} s; without a result: {', '.join(failed) or 'none'}", flush=True)
    print(f"not as on the CPU: {', '.join(wrong) or 'none'}", flush=True)


def whole(file: Path, tiny: bool, seconds: float) -> dict[str, Any]:
    """All groups, one after the other; the file has what they found."""
    started = time.monotonic()
    file.unlink(missing_ok=True)
    for name in GROUPS:
        left_s = max(1.0, started + seconds - time.monotonic())
        why = _group(name, file, left_s if tiny else min(left_s, _MOST_S.get(name, left_s)), tiny)
        found = read(file)
        if why:
            print(f"{name}: {why}", flush=True)
            found["groups"].setdefault(name, []).append({"name": f"rest of {name}", "error": why})
        found["seconds"] = time.monotonic() - started
        write(file, found)
    return read(file)


def _group(name: str, file: Path, left_s: float, tiny: bool) -> str | None:
    """Run a group, in further processes if a row ends one; returns why rows are missing."""
    end = time.monotonic() + left_s
    while True:
        before = len(read(file)["groups"].get(name, []))
        left_s = max(1.0, end - time.monotonic())
        command = [sys.executable, "-m", "benchmarks.gpu", "--only", name, "--json", str(file), "--resume"]
        command += ["--seconds", str(left_s), *(["--tiny"] if tiny else [])]
        limit_s = left_s + LATE_S + _STOPPING_S
        try:
            code = subprocess.run(command, timeout=None if tiny else limit_s).returncode
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s"
        if not code:
            return None
        if len(read(file)["groups"].get(name, [])) == before:
            return f"ended with exit code {code}"


if __name__ == "__main__":
    main()
