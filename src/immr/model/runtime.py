"""ONNX graphs on this machine's processor, run by OpenVINO."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from immr.types import FloatArray

_FIRST_RUN = threading.Lock()


class Graph:
    """One graph with the input `pixels`, ready to run; may be used from many threads."""

    def __init__(
        self, file: Path, threads: int = 1, at_once: int = 1, batch: int | None = None, reduced: bool = False
    ) -> None:
        """Compile the graph.

        Args:
            file: in ONNX.
            threads: of one run.
            at_once: runs beside each other that are as fast as one alone; further ones wait.
            batch: pictures of every run; None lets it change, which costs a tenth of the time.
            reduced: compute in bfloat16 where the processor has it: nearly twice as fast as float32, and
                recall stays the same (benchmarks/precision.py).
        """
        core = _openvino().Core()
        bfloat16 = reduced and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads * at_once,
            "NUM_STREAMS": at_once,
            "ENABLE_CPU_PINNING": False,  # other processes share these cores
        }
        model = core.read_model(file)
        if batch is not None:
            shape = model.input().partial_shape
            shape[0] = batch
            model.reshape(shape)
        self._compiled = core.compile_model(model, "CPU", settings)
        self._of_thread = threading.local()
        self._run_once()

    def run(self, output: str, pixels_B3SS: FloatArray) -> FloatArray:
        """One output, float32."""
        request = self._request()
        request.infer({"pixels": np.ascontiguousarray(pixels_B3SS)}, share_inputs=True)
        result: FloatArray = request.get_tensor(output).data.copy()  # the next run writes over it
        return result

    def _run_once(self) -> None:
        """Set up the binding from one thread.

        Whoever makes the first tensor does it, and lets go of the GIL half-way: another who comes to it then
        waits with the GIL, and both wait for ever.
        """
        shape = [size.get_length() if size.is_static else 1 for size in self._compiled.input().partial_shape]
        with _FIRST_RUN:
            self.run(self._compiled.output(0).any_name, np.zeros(shape, dtype=np.float32))

    def _request(self) -> Any:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _openvino() -> Any:
    """Import it without openvino_telemetry, which would report every start to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: cannot be imported
    import openvino

    return openvino
