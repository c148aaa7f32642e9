"""The adaptive limit follows the capacity of a variant."""

from __future__ import annotations

from serving.gateway.limit import AdaptiveLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(limit: AdaptiveLimit, capacity: int, clock: Clock, wanted: int = 100) -> int:
    """How many enter in one round, in which the variant refuses those beyond its capacity."""
    entered = sum(limit.enter() for _ in range(wanted))
    for number in range(entered):
        limit.refused() if number >= capacity else limit.answered()
    for _ in range(entered):
        limit.leave()
    clock.now += 0.2
    return entered


def test_it_settles_around_the_capacity_and_follows_it() -> None:
    clock = Clock()
    limit = AdaptiveLimit(100, clock)
    assert asked(limit, 10, clock) == 100
    for capacity in (10, 40, 3):
        for _ in range(60):
            asked(limit, capacity, clock)
        rounds = [asked(limit, capacity, clock) for _ in range(20)]
        assert all(0.8 * capacity <= entered <= capacity + 2 for entered in rounds), rounds


def test_light_load_does_not_change_it() -> None:
    clock = Clock()
    limit = AdaptiveLimit(10, clock)
    for _ in range(500):
        assert asked(limit, 10, clock, wanted=4) == 4
    assert asked(limit, 10, clock) == 10


def test_refusals_of_one_round_count_once_and_one_request_always_passes() -> None:
    clock = Clock()
    limit = AdaptiveLimit(10, clock)
    assert asked(limit, 0, clock) == 10
    assert asked(limit, 0, clock) == 9
    for _ in range(50):
        asked(limit, 0, clock)
    assert asked(limit, 0, clock) == 1
