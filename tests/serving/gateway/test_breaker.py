"""The circuit breaker under a clock of ours."""

from __future__ import annotations

import pytest

from serving.gateway.breaker import CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures_to_open=3, pause_s=1.0, max_pause_s=3.0, clock=clock)


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def test_only_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.allows() and not breaker.is_open
    breaker.failed()
    assert breaker.is_open and not breaker.allows()


def test_after_its_pause_one_request_tries(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.succeeded()
    assert not breaker.is_open and breaker.allows()


def test_the_pause_doubles_up_to_a_bound(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    for pause_s in (1.0, 2.0, 3.0, 3.0):
        clock.now += pause_s - 0.01
        assert not breaker.allows()
        clock.now += 0.01
        assert breaker.allows()
        breaker.failed()
    clock.now += 3.0
    assert breaker.allows()
    breaker.succeeded()
    fail(breaker, 3)
    clock.now += 1.0
    assert breaker.allows()


def test_requests_that_were_under_way_do_not_prolong_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 0.9
    breaker.failed()
    clock.now = 1.0
    assert breaker.allows()


def test_a_trial_that_goes_away_lets_another_try(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    assert breaker.allows()
    breaker.abandoned()
    assert breaker.allows()
