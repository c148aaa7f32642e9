"""Rows of the benchmark: each is printed and written when it is done, and an error affects only its own row.

The file is that of the whole benchmark. A row is in it before it starts, with an error, so that a process that is
killed leaves its reason; another process of the same group then continues with the next row.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from immr.storage.atomic import write_atomically

ROW_S = 100.0  # a row takes at most; compiling an encoder takes a minute
LATE_S = 20.0  # a row that has started may take so much longer than its group
BROKEN, STOPPED = 70, 71  # exit codes: the GPU refuses all further work; a row took too long
_ENDED = "the process ended in this row"


class Peak(NamedTuple):
    """What a GPU can do at most, by NVIDIA's data sheets."""

    bytes_per_s: float  # of its memory
    flops: float  # in float16 or bfloat16, without sparsity


H100 = Peak(3.35e12, 989e12)  # SXM
_PEAKS = {"H200": Peak(4.8e12, 989e12), "H100 NVL": Peak(3.9e12, 835e12), "H100 PCIe": Peak(2.0e12, 756e12)}


def peak() -> Peak:
    """Of the GPU at hand; without one, and for others than these, of an H100."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((found for known, found in _PEAKS.items() if known in name), H100)


class Report:
    """The rows of one group."""

    def __init__(
        self, file: Path | None, group: str, deadline: float, resume: bool = False, row_s: float = ROW_S
    ):
        """Begin with the rows that the file has, or with none.

        Args:
            file: of all groups; written before and after each row.
            group: its name there.
            deadline: by `time.monotonic`; no row starts after it.
            resume: keep the rows that the file has of this group, and do not repeat them.
            row_s: a row that takes longer ends the process.
        """
        self._file, self._group, self._deadline, self._row_s = file, group, deadline, row_s
        self.rows: list[dict[str, Any]] = read(file)["groups"].get(group, []) if resume else []
        self._known = {row["name"] for row in self.rows}

    def add(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row, or note why there is no result."""
        if name in self._known:
            return
        started = time.monotonic()
        if started > self._deadline:
            self._set({"name": name, "error": "not started: no time was left"})
            return
        self._set({"name": name, "error": _ENDED})
        limit_s = min(self._row_s, self._deadline + LATE_S - started)
        watch = threading.Timer(limit_s, self._stop, (name, limit_s))
        watch.daemon = True
        if limit_s < math.inf:
            watch.start()
        found: dict[str, Any]
        try:
            found = measure()
        except Exception as error:  # the other rows are worth having
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        watch.cancel()
        self._set({"name": name, **found, "took_s": round(time.monotonic() - started, 2)})
        print("  ".join(f"{key} {_short(value)}" for key, value in self.rows[-1].items()), flush=True)
        _free()

    def _stop(self, name: str, limit_s: float) -> None:
        self._set({"name": name, "error": f"stopped after {limit_s:.0f} s"})
        os._exit(STOPPED)  # the row may wait for the GPU and never return

    def _set(self, row: dict[str, Any]) -> None:
        self.rows = [each for each in self.rows if each["name"] != row["name"]] + [row]
        if self._file:
            found = read(self._file)
            found["groups"][self._group] = self.rows
            write(self._file, found)


def read(file: Path | None) -> dict[str, Any]:
    """What the benchmark has found so far."""
    with suppress(OSError, ValueError):
        if file:
            found: dict[str, Any] = json.loads(file.read_text())
            return found
    return {"groups": {}}


def write(file: Path, found: dict[str, Any]) -> None:
    """Replace the file."""
    write_atomically(file, json.dumps(found, indent=1) + "\n")


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    on_gpu = device != "cpu"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9 if on_gpu else None,
        "peak": peak()._asdict(),
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def waiting(device: str) -> Callable[[], None]:
    """Waits for what was launched on the device."""
    return torch.cuda.synchronize if device != "cpu" else lambda: None


def _free() -> None:
    """Give a row's memory back; ends the process if the GPU has failed, which another process may survive."""
    gc.collect()
    if not torch.cuda.is_available():
        return
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()  # otherwise encoders' weights stay in memory
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError as error:
        print(f"the GPU does not go on in this process: {error}", flush=True)
        os._exit(BROKEN)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
