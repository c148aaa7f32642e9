"""What is left of a CUDA graph that cannot be recorded; CUDA is replaced by mocks."""

from contextlib import contextmanager
from unittest.mock import Mock

import pytest
import torch

from immr.train.classifier.fused import cuda_graphs


@pytest.fixture
def cuda(monkeypatch):
    """torch's CUDA with one GPU, on which each capture fails."""
    cuda = Mock()
    cuda.stream.device_index = 0

    @contextmanager
    def graph(_, capture_error_mode):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", cuda.new_graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: cuda.stream)
    monkeypatch.setattr(torch.cuda, "set_stream", cuda.set_stream)
    monkeypatch.setattr(torch.cuda, "default_generators", (cuda.generator,))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", cuda.end_pool, raising=False)
    return cuda


def test_a_failed_capture_leaves_stream_generator_and_memory_as_before(cuda):
    with pytest.raises(RuntimeError, match="not permitted"):
        cuda_graphs.cuda_graph(Mock())
    cuda.set_stream.assert_called_once_with(cuda.stream)
    cuda.generator.graphsafe_set_state.assert_called_once_with(cuda.generator.clone_state())
    cuda.end_pool.assert_called_once_with(0, cuda.new_graph().pool())


def test_pieces_that_cannot_be_recorded_are_launched(cuda, caplog):
    pieces = [Mock(), Mock()]
    repeated = cuda_graphs.Repeated(pieces, cuda_graphs.cuda_graph)
    for _ in range(6):
        repeated(0)
        repeated(1)
    assert not repeated.is_recorded and "slower" in caplog.text
    assert [piece.call_count for piece in pieces] == [
        7,
        6,
    ]  # the first was launched once more while recording
