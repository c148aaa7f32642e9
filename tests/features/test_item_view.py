from datetime import UTC, datetime, timedelta

from immr.features.item_view import is_future


def test_a_time_is_in_the_future_if_no_clock_difference_explains_it() -> None:
    now = datetime.now(UTC)
    assert not is_future(now + timedelta(hours=23))
    assert is_future(now + timedelta(hours=25))
