"""Runs ONNX and OpenVINO graphs on the CPU, with OpenVINO."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from immr.types import FloatArray

_FIRST_RUN, _ONE_CORE = threading.Lock(), threading.Lock()


class Graph:
    """A compiled graph; thread-safe."""

    def __init__(
        self,
        file: Path,
        threads: int = 1,
        at_once: int = 1,
        sizes: Sequence[int] = (),
        in_bfloat16: bool = False,
    ) -> None:
        """Compile the graph.

        Args:
            file: `.onnx`, or OpenVINO's `.xml`.
            threads: threads of one run.
            at_once: runs in parallel at full speed; more have to wait.
            sizes: fixed sizes of the first axes of every input; others stay as the file has them. A photo's batch
                that may have any size takes a tenth more time, a text of any length several times as much.
            in_bfloat16: compute in bfloat16 if the processor supports it. Nearly twice as fast as float32, with
                the same recall (benchmarks/precision.py).
        """
        with _ONE_CORE:
            core = _core(os.getpid())
        bfloat16 = in_bfloat16 and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads * at_once,
            "NUM_STREAMS": at_once,
            "ENABLE_CPU_PINNING": False,  # other processes share these cores
        }
        model = core.read_model(file)
        if sizes:
            model.reshape({each: _fixed(each.partial_shape, sizes) for each in model.inputs})
        self._compiled = core.compile_model(model, "CPU", settings)
        self.outputs = frozenset(each.any_name for each in self._compiled.outputs)
        self._of_thread = threading.local()
        self._run_once()

    def run(self, output: str, pixels_B3SS: FloatArray) -> FloatArray:
        """One output, float32, of the input `pixels`."""
        return self.run_with(output, {"pixels": np.ascontiguousarray(pixels_B3SS)})

    def run_with(self, output: str, inputs: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
        """One output, float32, of contiguous inputs by name."""
        return self.run_for([output], inputs)[0]

    def run_for(self, outputs: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]]) -> list[FloatArray]:
        """Several outputs of one run, as `run_with` returns one."""
        request = self._request()
        request.infer(dict(inputs), share_inputs=True)
        # copied, because the next run overwrites the tensors
        return [request.get_tensor(output).data.copy() for output in outputs]

    def _run_once(self) -> None:
        """Initialize OpenVINO's Python binding from one thread.

        Creating the first tensor initializes it and releases the GIL in between. A second thread that arrives
        then waits for it while holding the GIL: a deadlock.
        """
        inputs = {each.any_name: _ones(each) for each in self._compiled.inputs}
        with _FIRST_RUN:
            self.run_with(self._compiled.output(0).any_name, inputs)

    def _request(self) -> Any:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _fixed(shape: Any, sizes: Sequence[int]) -> Any:
    for axis, size in enumerate(sizes):
        shape[axis] = size
    return shape


def _ones(tensor: Any) -> npt.NDArray[Any]:
    shape = [size.get_length() if size.is_static else 1 for size in tensor.partial_shape]
    return np.ones(shape, dtype=tensor.element_type.to_dtype())


@functools.cache
def _core(_process: int) -> Any:
    """OpenVINO's core; one that lives as long as the process. A forked process has its own.

    Its plugin for CPUs gives the thread that first uses it a stack for signal handlers, and frees that stack with the
    core. Of two cores, the one that goes last puts back the stack of the other (OpenVINO 2026.4), and the next
    signal then ends the process: SIGTERM, or SIGCHLD where a child's end is handled.
    """
    core = openvino().Core()
    core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # loads the plugin
    return core


def openvino() -> Any:
    """OpenVINO without its telemetry package, which reports every start to the vendor."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None blocks the import
    import openvino as module

    return module
