"""Records work on tensors at fixed addresses as CUDA graphs, which the host launches as a whole.

A step of the classifier is about a hundred short kernels, and launching them one by one takes the host longer than
the GPU takes to run them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

Work = Callable[[], None]
_FIRST_RUNS = 3  # they compile kernels, which must not happen while recording
_log = logging.getLogger(__name__)


class Recording(Protocol):
    """Recorded work."""

    def replay(self) -> None:
        """Do the same work again, on the values that its tensors hold now."""


class GraphRecorder(Protocol):
    """Records work without doing it."""

    def __call__(self, work: Work) -> Recording:
        """The recording; raises RuntimeError if the work cannot be recorded."""


class Repeated:
    """Pieces of a step that are done in turn: launched kernel by kernel in the first steps, then recorded.

    A piece reads and writes tensors that exist before it, or that it creates and keeps for other pieces. It must not
    read a value on the host, and sizes must not change.
    """

    def __init__(self, pieces: Sequence[Work], recorder: GraphRecorder | None):
        """Without a recorder the pieces are always launched."""
        self._pieces, self._recorder = pieces, recorder
        self._recordings: list[Recording] = []
        self._runs = 0

    @property
    def is_recorded(self) -> bool:
        """Whether the pieces are replayed by now."""
        return bool(self._recordings)

    def __call__(self, number: int) -> None:
        """Do a piece; a step starts with the first."""
        if number == 0:
            self._runs += 1
            if self._recorder and self._runs > _FIRST_RUNS and not self._recordings:
                self._record(self._recorder)
        if self._recordings:
            self._recordings[number].replay()
        else:
            self._pieces[number]()

    def _record(self, recorder: GraphRecorder) -> None:
        try:
            self._recordings = [recorder(piece) for piece in self._pieces]
        except RuntimeError as error:
            _log.warning("the classifier's step is not recorded as a CUDA graph, and is slower: %s", error)
            self._recordings, self._recorder = [], None


def cuda_graph(work: Work) -> Recording:
    """Record the work as a CUDA graph on the current device.

    Raises:
        RuntimeError: CUDA refuses a part of it.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        # another thread may copy pictures during the capture, which is harmless
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    except RuntimeError:
        _leave_capture(graph, stream)
        raise
    return graph


def _leave_capture(graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
    """Undo what torch leaves behind if a capture fails; otherwise dropout would fail and no memory be freed."""
    torch.cuda.set_stream(stream)
    generator = torch.cuda.default_generators[stream.device_index]
    generator.graphsafe_set_state(generator.clone_state())  # a copy does not take part in the capture
    with contextlib.suppress(RuntimeError, AttributeError):  # the capture's pool may be closed already
        torch._C._cuda_endAllocateToPool(stream.device_index, graph.pool())
