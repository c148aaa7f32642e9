"""Training and encoding on one GPU: correctness against the CPU, then times, peers and the hardware's limit.

    python -m benchmarks.gpu --json gpu.json        # one H100, at most 6 minutes
    python -m benchmarks.gpu --tiny                 # a minute on a CPU: a smoke test

Groups of rows, each in a separate process, so that an error ends only one of them:

correctness  losses and gradients of the classifier, features and augmented pictures, against those of the CPU
steps        the classifier's step and its peers
largest      100 million classes on one card
photos       fine-tuning and encoding, pictures per second

If a row fails, its error is in the JSON file. `limit` is the bound that a row's bytes and FLOPs set at an H100's
3.35 TB/s and 989 TFLOP/s, `share` the fraction of it that was reached, and `aim` the target.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu import classifier_steps, correctness, photos
from benchmarks.gpu.rows import Report

GROUPS = {
    "correctness": correctness.run,
    "steps": classifier_steps.run,
    "largest": classifier_steps.run_largest,
    "photos": photos.run,
}
_WHOLE_S = 345.0
_STOPPING_S = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    parser.add_argument("--only", choices=GROUPS, help="one group, in this process")
    parser.add_argument("--seconds", type=float, default=_WHOLE_S, help="start no row after so many seconds")
    parser.add_argument("--json", type=Path, help="write all figures here, after each row")
    chosen = parser.parse_args(arguments)
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        parser.error("there is no GPU here: add --tiny to try the benchmark on a CPU")
    if chosen.only:
        report = Report(chosen.json, time.monotonic() + chosen.seconds)
        GROUPS[chosen.only](report, device, chosen.tiny)
        return
    found = whole(chosen.tiny, chosen.seconds)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    failed = [row["name"] for rows in found["groups"].values() for row in rows if "error" in row]
    print(f"{found['seconds']:.0f} s; without a result: {', '.join(failed) or 'none'}", flush=True)


def whole(tiny: bool, seconds: float) -> dict[str, Any]:
    """All groups, one after the other."""
    started, groups = time.monotonic(), dict[str, list[dict[str, Any]]]()
    with TemporaryDirectory() as folder:
        for name in GROUPS:
            file = Path(folder) / f"{name}.json"
            left = max(1.0, started + seconds - time.monotonic())
            why = _group(name, file, left, tiny)
            groups[name] = json.loads(file.read_text()) if file.is_file() else []
            if why:
                print(f"{name}: {why}", flush=True)
                groups[name].append({"name": f"rest of {name}", "error": why})
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "seconds": time.monotonic() - started,
        "groups": groups,
    }


def _group(name: str, file: Path, left_s: float, tiny: bool) -> str | None:
    """Run a group; returns why it did not end by itself."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--only", name, "--json", str(file)]
    command += ["--seconds", str(left_s), *(["--tiny"] if tiny else [])]
    try:
        code = subprocess.run(command, timeout=None if tiny else left_s + _STOPPING_S).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {left_s:.0f} s"
    return f"ended with exit code {code}" if code else None


if __name__ == "__main__":
    main()
