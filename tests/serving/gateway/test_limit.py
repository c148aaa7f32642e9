"""A limit that finds out what a variant can bear."""

from __future__ import annotations

from serving.gateway.limit import AdaptiveLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(limit: AdaptiveLimit, bears: int, clock: Clock, wanted: int = 100) -> int:
    """How many are let in, in one round in which the variant refuses what is beyond it."""
    entered = sum(limit.enter() for _ in range(wanted))
    for number in range(entered):
        limit.refused() if number >= bears else limit.answered()
    for _ in range(entered):
        limit.leave()
    clock.now += 0.2
    return entered


def test_it_settles_around_what_is_borne_and_follows_it() -> None:
    clock = Clock()
    limit = AdaptiveLimit(100, clock)
    assert asked(limit, 10, clock) == 100
    for bears in (10, 40, 3):
        for _ in range(60):
            asked(limit, bears, clock)
        rounds = [asked(limit, bears, clock) for _ in range(20)]
        assert all(0.8 * bears <= entered <= bears + 2 for entered in rounds), rounds


def test_where_little_is_asked_nothing_is_learned() -> None:
    clock = Clock()
    limit = AdaptiveLimit(10, clock)
    for _ in range(500):
        assert asked(limit, 10, clock, wanted=4) == 4
    assert asked(limit, 10, clock) == 10


def test_refusals_of_one_moment_count_once_and_one_may_always_try() -> None:
    clock = Clock()
    limit = AdaptiveLimit(10, clock)
    assert asked(limit, 0, clock) == 10
    assert asked(limit, 0, clock) == 9
    for _ in range(50):
        asked(limit, 0, clock)
    assert asked(limit, 0, clock) == 1
