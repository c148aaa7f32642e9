"""Rows of the benchmark: each is printed and written when it is done, and an error affects only its own row."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

BYTES_PER_S, FLOPS = 3.35e12, 989e12  # of an H100 (SXM): memory, and products in float16 or bfloat16


class Report:
    """The rows of one group."""

    def __init__(self, file: Path | None, deadline: float):
        """Args:
        file: written after each row.
        deadline: by `time.monotonic`; no row starts after it.
        """
        self.rows: list[dict[str, Any]] = []
        self._file, self._deadline = file, deadline

    def add(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row, or note why there is no result."""
        started = time.monotonic()
        found: dict[str, Any]
        if started > self._deadline:
            found = {"error": "not started: no time was left"}
        else:
            try:
                found = measure()
            except Exception as error:  # the other rows are worth having
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
        found = {"name": name, **found, "took_s": round(time.monotonic() - started, 2)}
        self.rows.append(found)
        print("  ".join(f"{key} {_short(value)}" for key, value in found.items()), flush=True)
        if self._file:
            self._file.write_text(json.dumps(self.rows, indent=1))
        gc.collect()
        if torch.cuda.is_available():
            torch.compiler.reset()  # otherwise encoders' weights stay in memory
            torch.cuda.empty_cache()


def waiting(device: str) -> Callable[[], None]:
    """Waits for what was launched on the device."""
    return torch.cuda.synchronize if device != "cpu" else lambda: None


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
