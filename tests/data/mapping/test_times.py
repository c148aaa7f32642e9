"""Times as shops write them become moments in UTC."""

from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from immr.data.column_types import convert
from immr.data.contract import TIMESTAMP
from immr.data.mapping.numbers import UNREADABLE
from immr.data.mapping.times import read_times

BERLIN = "Europe/Berlin"


def moments(values: pa.Array, **options: str) -> list[datetime | None]:
    return convert(read_times(values, **options), TIMESTAMP)[0].to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "pattern", "zone", "expected"),
    [
        ("31.12.2025 23:59", "%d.%m.%Y %H:%M", BERLIN, datetime(2025, 12, 31, 22, 59, tzinfo=UTC)),
        ("01.07.2025 12:00", "%d.%m.%Y %H:%M", BERLIN, datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("2025年7月1日", "%Y年%m月%d日", "Asia/Tokyo", datetime(2025, 6, 30, 15, tzinfo=UTC)),
        ("01.07.2025 12:00 +0200", "%d.%m.%Y %H:%M %z", "", datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("2025-07-01T12:00:00", "", BERLIN, datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("2025-07-01T12:00:00Z", "", BERLIN, datetime(2025, 7, 1, 12, tzinfo=UTC)),
        ("2025-10-26 02:30:00", "", BERLIN, datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),  # occurs twice
        ("2025-03-30 02:30:00", "", BERLIN, datetime(2025, 3, 30, 1, 0, tzinfo=UTC)),  # is skipped
        ("32.12.2025 23:59", "%d.%m.%Y %H:%M", BERLIN, None),
        ("soon", "", BERLIN, None),
    ],
)
def test_text(text: str, pattern: str, zone: str, expected: datetime | None) -> None:
    assert moments(pa.array([text]), pattern=pattern, zone=zone) == [expected]


def test_unreadable_times_are_not_treated_as_missing() -> None:
    found = read_times(pa.array(["soon", "", None]), zone=BERLIN)
    assert found.to_pylist() == [UNREADABLE, None, None]
    assert read_times(pa.array(["later", "1"]), unit="s").to_pylist()[0] == UNREADABLE


@pytest.mark.parametrize("values", [pa.array([1_751_371_200_000]), pa.array(["1751371200000"])])
def test_numbers_with_a_unit(values: pa.Array) -> None:
    assert moments(values, unit="ms") == [datetime(2025, 7, 1, 12, tzinfo=UTC)]


def test_numbers_outside_the_calendar_are_unreadable() -> None:
    assert moments(pa.array([2**62, -(2**62)]), unit="s") == [None, None]


def test_naive_timestamps_take_the_zone_and_others_keep_theirs() -> None:
    naive = pa.array([datetime(2025, 7, 1, 12)], pa.timestamp("ms"))
    assert moments(naive, zone=BERLIN) == [datetime(2025, 7, 1, 10, tzinfo=UTC)]
    zoned = pa.array([datetime(2025, 7, 1, 12, tzinfo=UTC)], TIMESTAMP)
    assert moments(zoned, zone=BERLIN) == [datetime(2025, 7, 1, 12, tzinfo=UTC)]


@pytest.mark.parametrize("zone", ["Berlin", "Europe", "../../etc/passwd"])
def test_an_unknown_zone_is_an_error(zone: str) -> None:
    """Europe is a folder of zones."""
    with pytest.raises(ValueError, match=f"no time zone '{zone}'"):
        read_times(pa.array(["2025-07-01"]), zone=zone)


def test_years_beyond_those_of_nanoseconds_are_read() -> None:
    assert moments(pa.array(["0001-01-02", "9999-12-31 12:00"]), zone=BERLIN) == [
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(9999, 12, 31, 12, tzinfo=UTC),
    ]


def test_fractions_of_units_are_read() -> None:
    expected = [datetime(2025, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)]
    for values in (pa.array(["1751371200.25"]), pa.array(["1.75137120025e9"]), pa.array([1_751_371_200.25])):
        assert moments(values, unit="s") == expected
    assert moments(pa.array(["1751371200250.0"]), unit="ms") == expected
    assert read_times(pa.array([float("nan"), 1.0]), unit="s").to_pylist()[0] is None


def test_a_number_beyond_64_bits_does_not_become_another_time() -> None:
    found = read_times(pa.array([2**64 - 1_751_371_200, 1_751_371_200], pa.uint64()), unit="s")
    assert convert(found, TIMESTAMP)[0].to_pylist() == [None, datetime(2025, 7, 1, 12, tzinfo=UTC)]


def test_dates_begin_at_midnight_of_their_zone() -> None:
    dates = pa.array([date(2025, 7, 1), None])
    for kind in (pa.date32(), pa.date64()):
        found = moments(dates.cast(kind), zone=BERLIN)
        assert found == [*moments(pa.array(["2025-07-01"]), zone=BERLIN), None]
