import threading

import pytest

from dashboards.background import BackgroundCalls


def test_a_name_runs_once_at_a_time() -> None:
    may_end, calls = threading.Event(), []

    def work(name: str) -> int:
        calls.append(name)
        may_end.wait(30)
        return len(calls)

    background = BackgroundCalls(work)
    first, second = background("a"), background("a")
    assert first is second and not first.done()
    may_end.set()
    assert first.result(30) == 1
    assert background("a").result(30) == 2
    assert calls == ["a", "a"]


def test_an_error_reaches_the_caller_and_the_next_call_retries() -> None:
    errors = iter([ValueError("away"), None])

    def work(name: str) -> str:
        if error := next(errors):
            raise error
        return name

    background = BackgroundCalls(work)
    with pytest.raises(ValueError, match="away"):
        background("a").result(30)
    assert background("a").result(30) == "a"
