from datetime import UTC, datetime, timedelta

import pyarrow as pa

from immr.governance.splits.sessions import sessions


def test_a_session_ends_after_half_an_hour_of_silence() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=m) for m in (0, 20, 45, 90, 0)]
    found = sessions(pa.chunked_array([["u", "u", "u", "u", "v"]]), pa.chunked_array([times]))
    assert found[0] == found[1] == found[2] and len(set(found.tolist())) == 3


def test_a_session_goes_on_in_the_next_step_of_rounded_times() -> None:
    """In a log of hours, photos of 10:59 and 11:01 were two sessions, so one wrong click confirmed the other."""
    hours = [datetime(2025, 1, 1, hour, tzinfo=UTC) for hour in (10, 11, 13)]
    found = sessions(pa.chunked_array([["u"] * 3]), pa.chunked_array([hours])).tolist()
    assert found[0] == found[1] != found[2]
    days = [datetime(2025, 1, day, tzinfo=UTC) for day in (1, 1, 2)]
    found = sessions(pa.chunked_array([["u"] * 3]), pa.chunked_array([days])).tolist()
    assert found[0] == found[1] != found[2], "a date says nothing of the next day"
