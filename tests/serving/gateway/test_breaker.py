"""The circuit breaker, with a clock that the test sets."""

from __future__ import annotations

import pytest

from serving.gateway.breaker import Attempt, CircuitBreaker


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
        admitted(breaker).failed()


def admitted(breaker: CircuitBreaker) -> Attempt:
    attempt = breaker.admit()
    assert attempt is not None
    return attempt


def test_consecutive_failures_open_it(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    admitted(breaker).succeeded()
    fail(breaker, 2)
    assert breaker.admit() and not breaker.is_open
    admitted(breaker).failed()
    assert breaker.is_open and not breaker.admit()


def test_after_the_pause_one_request_tries(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    trial = admitted(breaker)
    assert breaker.admit() is None
    trial.succeeded()
    assert not breaker.is_open and breaker.admit()


def test_the_pause_doubles_up_to_a_maximum(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    for pause_s in (1.0, 2.0, 3.0, 3.0):
        clock.now += pause_s - 0.01
        assert not breaker.admit()
        clock.now += 0.01
        admitted(breaker).failed()
    clock.now += 3.0
    admitted(breaker).succeeded()
    fail(breaker, 3)
    clock.now += 1.0
    assert breaker.admit()


def test_requests_from_before_it_opened_do_not_extend_the_pause(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    earlier = admitted(breaker)
    fail(breaker, 3)
    clock.now = 0.9
    earlier.failed()
    clock.now = 1.0
    assert breaker.admit()


def test_after_an_abandoned_trial_another_request_tries(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    admitted(breaker).abandoned()
    assert breaker.admit()


@pytest.mark.parametrize("outcome", ["failed", "abandoned"])
def test_a_forced_request_does_not_end_the_trial_of_another(
    breaker: CircuitBreaker, clock: Clock, outcome: str
) -> None:
    fail(breaker, 3)
    clock.now = 1.0
    trial = admitted(breaker)
    getattr(breaker.force(), outcome)()
    clock.now = 10.0
    assert breaker.admit() is None, "the trial is still in progress"
    trial.failed()
    clock.now = 11.9
    assert breaker.admit() is None, "only the trial doubled the pause"
    clock.now = 12.0
    assert breaker.admit()


def test_a_forced_request_that_succeeds_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    breaker.force().succeeded()
    assert not breaker.is_open
