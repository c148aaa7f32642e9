from __future__ import annotations

import threading
import time

import pytest

from dashboards.cached import CachedValue
from tests.support.patience import until


class Counter:
    """Counts its calls; held up or failing on demand."""

    def __init__(self) -> None:
        self.calls, self.fails = 0, False
        self.may_return = threading.Event()
        self.may_return.set()

    def __call__(self) -> int:
        self.calls += 1
        assert self.may_return.wait(60)
        if self.fails:
            raise OSError("the log is on a disk that has gone")
        return self.calls


def test_a_value_is_computed_once_until_it_expires() -> None:
    compute = Counter()
    value = CachedValue(compute, keep_s=60)
    assert [value(), value(), value()] == [1, 1, 1]


def test_a_slow_first_value_is_not_kept_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, the page showed roles from before a promotion for minutes: MLflow's import was counted."""
    now = 0.0

    def slow() -> float:
        nonlocal now
        now += 20.0
        return now

    monkeypatch.setattr(time, "monotonic", lambda: now)
    value = CachedValue(slow, keep_s=30)
    assert value() == 20.0
    now += 41.0
    assert value() == 81.0
    now += 41.0
    assert value() == 81.0


def test_an_expired_value_is_computed_again() -> None:
    value = CachedValue(Counter(), keep_s=60)
    assert value() == 1
    value._expires = 0.0
    assert [value(), value()] == [2, 2]


def test_a_renewed_value_is_what_all_readers_get() -> None:
    value = CachedValue(Counter(), keep_s=60)
    assert [value(), value.renewed(), value()] == [1, 2, 2]


def test_a_slow_value_is_renewed_in_the_background() -> None:
    compute = Counter()
    value = CachedValue(compute, keep_s=0)
    value()
    compute.may_return.clear()
    value._took_s, value._expires = 1.0, time.monotonic()
    assert value() == 1  # the old one, although the new one is not there yet
    compute.may_return.set()
    until(lambda: value() > 1)


def test_a_value_that_expired_long_ago_is_waited_for_except_by_scrapes() -> None:
    """After a quiet night, the first visitor of the page once saw yesterday's figures as if they were today's."""
    compute = Counter()
    value = CachedValue(compute, keep_s=60)
    value()
    compute.may_return.clear()
    value._took_s, value._expires = 1.0, 0.0
    assert value.latest() == 1
    compute.may_return.set()
    until(lambda: value.latest() == 2)
    value._took_s, value._expires = 1.0, 0.0
    assert value() == 3


def test_a_failed_renewal_is_not_hidden_behind_the_old_value() -> None:
    """Only errors of ours were caught once: any other kept the old value forever."""
    compute = Counter()
    value = CachedValue(compute, keep_s=0)
    value()
    compute.fails, value._took_s, value._expires = True, 1.0, time.monotonic()

    def fails() -> bool:
        try:
            value()
        except OSError:
            return True
        return False

    until(fails)
    with pytest.raises(OSError, match="disk"):
        value()
