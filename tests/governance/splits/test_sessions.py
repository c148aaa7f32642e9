from datetime import UTC, datetime, timedelta

import pyarrow as pa

from immr.governance.splits.sessions import sessions


def test_a_session_ends_after_half_an_hour_of_silence() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=m) for m in (0, 20, 45, 90, 0)]
    found = sessions(pa.chunked_array([["u", "u", "u", "u", "v"]]), pa.chunked_array([times]))
    assert found[0] == found[1] == found[2] and len(set(found.tolist())) == 3
