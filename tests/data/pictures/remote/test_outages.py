"""A host that has stopped answering is asked rarely, and given up after minutes."""

from immr.data.pictures.remote.outages import Outages


class Clock:
    """Time passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def out_of_service(clock: Clock) -> Outages:
    outages = Outages(3, clock.pause, clock)
    for _ in range(3):
        assert outages.may_ask("cdn")
        outages.failed("cdn")
    return outages


def test_a_host_is_asked_every_ten_seconds_and_given_up_after_five_minutes() -> None:
    clock = Clock()
    outages, asked = out_of_service(clock), 0
    while outages.may_ask("cdn"):
        outages.failed("cdn")
        asked += 1
        assert clock.now == 10.0 * asked
    assert asked == 30 and 300 < clock.now < 310
    assert not outages.may_ask("cdn") and outages.may_ask("another")


def test_a_host_that_has_been_given_up_is_asked_again() -> None:
    clock = Clock()
    outages = out_of_service(clock)
    clock.now = 1000.0
    assert outages.may_ask("cdn")
    assert not outages.may_ask("cdn")
    outages.answered("cdn")
    before = clock.now
    assert all(outages.may_ask("cdn") for _ in range(10)) and clock.now == before


def test_failures_that_are_not_in_a_row_are_no_outage() -> None:
    clock = Clock()
    outages = Outages(3, clock.pause, clock)
    for _ in range(10):
        outages.failed("cdn")
        outages.failed("cdn")
        outages.answered("cdn")
    assert outages.may_ask("cdn") and clock.now == 0
