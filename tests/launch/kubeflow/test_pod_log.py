from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from immr.launch.kubeflow.pod_log import PodLog


class Core:
    """The API for pods: each call streams the next of these answers."""

    def __init__(self, *answers: list[bytes] | Exception) -> None:
        self._answers = iter(answers)

    def read_namespaced_pod_log(self, pod: str, namespace: str, **options: Any) -> Core:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        self._parts = answer
        return self

    def stream(self, size: int) -> Iterator[bytes]:
        yield from self._parts


def followed(core: Core, times: int = 1) -> PodLog:
    log = PodLog(core, "shop", "pytorch")  # type: ignore[arg-type]
    for _ in range(times):
        log.ensure("train-7-master-0")
        log.finish(30)
    return log


def test_lines_are_joined_and_the_last_needs_no_line_break(capsys: pytest.CaptureFixture[str]) -> None:
    log = followed(Core([b"1 epoch", b" 1\n2 epo", b"ch 2\n3 done"]))
    assert list(log.lines) == ["epoch 1", "epoch 2", "done"]
    assert capsys.readouterr().err == "epoch 1\nepoch 2\ndone\n"


def test_a_stream_that_was_cut_resumes_without_repeating_a_line() -> None:
    log = followed(Core([b"1 a\n2 b\n"], OSError("cut"), [b"1 a\n2 b\n3 c\n"]), times=3)
    assert list(log.lines) == ["a", "b", "c"]
