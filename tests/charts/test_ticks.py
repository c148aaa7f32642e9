from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from immr.charts.ticks import nice_steps, number_ticks, time_ticks


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(1, 8))
def test_steps_are_few_and_enclose_the_span(low: float, span: float, about: int) -> None:
    steps = nice_steps(low, low + span, about)
    slack = 1e-6 * max(1.0, abs(low + span))
    assert steps[0] <= low + slack
    assert steps[-1] >= low + span - slack
    assert 2 <= len(steps) <= 3 * about + 3


def test_number_ticks_are_round_and_inside_the_span() -> None:
    assert [text for _, text in number_ticks(1, 16, 5)] == ["5", "10", "15"]
    assert [text for _, text in number_ticks(0, 1, 5)] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_time_ticks_are_round() -> None:
    assert [text for _, text in time_ticks(0, 60, 4)] == [
        "00:00:00",
        "00:00:15",
        "00:00:30",
        "00:00:45",
        "00:01:00",
    ]
    assert [text for _, text in time_ticks(0, 86400, 4)][1] == "06:00"
    beyond_a_day = [text for _, text in time_ticks(0, 2 * 86400, 8)]
    assert beyond_a_day[:3] == ["01 Jan 00:00", "01 Jan 06:00", "01 Jan 12:00"]
    assert all(math.fmod(at_s, 86400) == 0 for at_s, _ in time_ticks(5e8, 5e8 + 40 * 86400, 4))
