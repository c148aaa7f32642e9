"""A value of any type is converted correctly or reported as unreadable, never changed."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immr.data.column_types import UNREADABLE, UnsuitableTypeError, convert, is_list, why_lost
from immr.data.contract import TIMESTAMP

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
DICTIONARY = pa.dictionary(pa.int8(), pa.string())
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def converted(values: pa.Array, wanted: pa.DataType) -> list[Any]:
    """The values, with "unreadable" for each that cannot be converted."""
    result, is_given = convert(values, wanted)
    assert len(result) == len(is_given) == len(values)
    pairs = list(zip(result.to_pylist(), is_given.to_pylist(), strict=True))
    assert all(there or value is None for value, there in pairs)
    assert all(
        there or value is None for value, there in zip(result.to_pylist(), is_given.to_pylist(), strict=True)
    )
    return [value if value is not None or not there else "unreadable" for value, there in pairs]


@pytest.mark.parametrize("kind", [*TEXTS, DICTIONARY])
def test_text_of_any_encoding(kind: pa.DataType) -> None:
    values = pa.array(["Käse", None, "nan", ""], pa.string())
    values = values.dictionary_encode() if kind == DICTIONARY else values.cast(kind)
    assert converted(values, pa.string()) == ["Käse", None, "nan", ""]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(4)])
def test_bytes_that_are_not_text_are_unreadable(kind: pa.DataType) -> None:
    assert converted(pa.array([b"\xff\xfe\xfd\xfc", b"milk"], kind), pa.string()) == ["unreadable", "milk"]


@given(st.sampled_from(INTEGERS), st.data())
def test_integer_ids_keep_every_digit(kind: pa.DataType, data: st.DataObject) -> None:
    signed = pa.types.is_signed_integer(kind)
    low, high = (
        (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
        if signed
        else (0, 2**kind.bit_width - 1)
    )
    ids = data.draw(st.lists(st.integers(low, high), min_size=1))
    assert converted(pa.array(ids, kind), pa.string()) == [str(number) for number in ids]


def test_uuids_and_decimals_may_be_ids() -> None:
    import uuid

    key = uuid.UUID("12345678-1234-5678-1234-567812345678")
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([key.bytes, None], pa.binary(16)))
    assert converted(ids, pa.string()) == [str(key), None]
    big = Decimal(1234567890123456789)
    assert converted(pa.array([big], pa.decimal128(19, 0)), pa.string()) == ["1234567890123456789"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.0, 2.0]),
        pa.array([1.0], pa.float32()),
        pa.array([Decimal("1.50")]),
        pa.array([True]),
        pa.array([NOON]),
        pa.array([date(2025, 6, 1)]),
        pa.array([["a"]]),
        pa.array([{"a": 1}]),
    ],
)
def test_other_types_are_not_text(values: pa.Array) -> None:
    with pytest.raises(UnsuitableTypeError, match="write the column as text"):
        convert(values, pa.string())


@pytest.mark.parametrize("wanted", [pa.string(), pa.float64(), pa.int64(), pa.bool_(), TIMESTAMP])
def test_a_column_without_values_may_be_of_any_type(wanted: pa.DataType) -> None:
    for empty in (pa.nulls(2), pa.array([None, None], pa.list_(pa.int8())), pa.array([float("nan")] * 2)):
        assert converted(empty, wanted) == [None, None]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_text_is_the_same_number(number: float) -> None:
    assert converted(pa.array([repr(number), f" {number!r} "]), pa.float64()) == [number, number]


@pytest.mark.parametrize("kind", [*INTEGERS, pa.float16(), pa.float32(), pa.float64(), pa.decimal128(5, 2)])
def test_numbers_of_any_type(kind: pa.DataType) -> None:
    assert converted(pa.array([2, None], pa.int8()).cast(kind), pa.float64()) == [2.0, None]


@pytest.mark.parametrize(
    "text",
    ["2,50", "1.299,00 €", "sold out", "0x10", "1_000", "inf", "1e", "--1", "½", "1 2", "true", "."],
)
def test_other_text_is_not_a_number(text: str) -> None:
    assert converted(pa.array([text, "3"]), pa.float64()) == ["unreadable", 3.0]


@pytest.mark.parametrize("text", ["", " ", "NaN", "null", "None", "N/A", "NA"])
@pytest.mark.parametrize("wanted", [pa.float64(), pa.bool_(), TIMESTAMP])
def test_the_usual_words_for_no_value_are_missing(text: str, wanted: pa.DataType) -> None:
    assert converted(pa.array([text]), wanted) == [None]


@pytest.mark.parametrize(
    "values", [pa.array([True]), pa.array([NOON]), pa.array([timedelta(1)]), pa.array([[1]])]
)
def test_other_types_are_not_numbers(values: pa.Array) -> None:
    with pytest.raises(UnsuitableTypeError, match="as numbers"):
        convert(values, pa.float64())


def test_booleans() -> None:
    words = pa.array(["true", "FALSE", "1", "0", " True ", "yes", "2", None])
    assert converted(words, pa.bool_()) == [True, False, True, False, True, "unreadable", "unreadable", None]
    for kind in (*INTEGERS, pa.float64(), pa.decimal128(5, 2)):
        numbers = pa.array([1, 0, 2], pa.int8()).cast(kind)
        assert converted(numbers, pa.bool_()) == [True, False, "unreadable"]
    assert converted(pa.array([0.5, float("nan")]), pa.bool_()) == ["unreadable", None]
    with pytest.raises(UnsuitableTypeError):
        convert(pa.array([NOON]), pa.bool_())


@settings(derandomize=True)
@given(st.sampled_from(list(UNITS)), st.sampled_from([None, "UTC"]), st.integers(-(2**63), 2**63 - 1))
def test_a_timestamp_is_right_or_unreadable_but_never_wraps(unit: str, zone: str | None, count: int) -> None:
    values = pa.array([count], pa.int64()).cast(pa.timestamp(unit, zone))
    try:
        expected: object = EPOCH + timedelta(microseconds=abs(count) * 10**6 // UNITS[unit]) * (
            -1 if count < 0 else 1
        )
    except OverflowError:
        expected = "unreadable"
    if abs(count) >= 2**63 - 1:
        return  # at the ends of int64, pyarrow and pandas overflow themselves
    assert converted(values, TIMESTAMP) == [expected]


def test_zones_dates_and_text() -> None:
    berlin = pa.array([NOON.replace(tzinfo=None)], pa.timestamp("us")).cast(
        pa.timestamp("us", "Europe/Berlin")
    )
    assert converted(berlin, TIMESTAMP) == [NOON]
    midnight = datetime(2025, 6, 1, tzinfo=UTC)
    for kind in (pa.date32(), pa.date64()):
        assert converted(pa.array([date(2025, 6, 1), None], kind), TIMESTAMP) == [midnight, None]
    texts = ["2025-06-01", "2025-06-01T12:00:00Z", "2025-06-01 14:00:00+02:00", "2025-06-01T12:00:00.000001"]
    assert converted(pa.array(texts), TIMESTAMP) == [midnight, NOON, NOON, NOON + timedelta(microseconds=1)]


@pytest.mark.parametrize(
    "text", ["yesterday", "1750000000", "2025", "01.06.2025", "06/01/2025", "2025-13-01"]
)
def test_other_text_is_not_a_time(text: str) -> None:
    assert converted(pa.array([text, "2025-06-01"]), TIMESTAMP)[0] == "unreadable"


@pytest.mark.parametrize("values", [pa.array([1]), pa.array([1.5]), pa.array([Decimal(1)]), pa.array([True])])
def test_numbers_are_not_times(values: pa.Array) -> None:
    with pytest.raises(UnsuitableTypeError, match="ISO 8601"):
        convert(values, TIMESTAMP)


def test_run_end_encoding() -> None:
    import pyarrow.compute as pc

    assert converted(pc.run_end_encode(pa.array(["1", "1", None])), pa.float64()) == [1.0, 1.0, None]


@pytest.mark.parametrize(
    "text",
    [
        "2025-06-01 12:00:00 UTC",  # BigQuery
        "2025-06-01 12:00:00.000000 UTC",
        "2025-06-01 12:00:00 GMT",
        "2025-06-01t12:00:00z",
        "2025-06-01 14:00:00 +0200",  # Ruby
        "2025-06-01T14:00:00+02:00[Europe/Berlin]",  # Java
        "2025-06-01 12:00:00,000",  # Python's logging
        "20250601T120000Z",
    ],
)
def test_the_ways_of_writing_iso_8601(text: str) -> None:
    assert converted(pa.array([text]), TIMESTAMP) == [NOON]


def test_what_else_stands_for_true_false_and_missing() -> None:
    assert converted(pa.array(["1.0", "0.0"]), pa.bool_()) == [True, False]
    assert converted(pa.array(["\\N", "2"]), pa.float64()) == [None, 2.0]  # MySQL, Hive


def test_a_missing_text_as_databases_write_it() -> None:
    assert converted(pa.array(["\\N", "\\Name", "N"]), pa.string()) == [None, "\\Name", "N"]


def test_what_a_mapping_cannot_read_is_no_text() -> None:
    values = pa.array([UNREADABLE, "42.5"])
    assert converted(values, pa.string()) == ["unreadable", "42.5"]
    assert why_lost(values, pa.string()) == "cannot be read as the mapping says"
    assert why_lost(pa.array([b"\xff"]), pa.string()) == "is not UTF-8 text"


@pytest.mark.parametrize("year", [1, 999, 1500, 1677, 1678, 2261, 2262, 9999])
def test_years_beyond_those_of_nanoseconds(year: int) -> None:
    """The same as in Parquet; .NET writes 0001 for no time, and SAP 9999 for no end."""
    moment = datetime(year, 6, 1, 12, tzinfo=UTC)
    texts = [f"{year:04}-06-01T12:00:00Z", f"{year:04}-06-01 14:00:00+02:00", f"{year:04}-06-01"]
    assert converted(pa.array(texts), TIMESTAMP) == [moment, moment, moment.replace(hour=0)]
    beyond = ["0001-01-01T00:00:00+02:00", "9999-12-31T23:00:00-02:00", "9999-02-30", "3000-W01-1T10:00"]
    assert converted(pa.array(beyond), TIMESTAMP) == ["unreadable"] * 4


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.list_(pa.string(), 2),
        pa.large_list(pa.string()),
        pa.list_view(pa.string()),
        pa.large_list_view(pa.string()),
    ],
)
def test_lists_of_every_kind(kind: pa.DataType) -> None:
    assert is_list(kind) and not is_list(pa.string()) and not is_list(pa.struct({}))
