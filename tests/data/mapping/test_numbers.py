"""Numbers as shops write them; unclear ones are unreadable, never guessed."""

import pyarrow as pa
import pytest

from immr.data.mapping.numbers import UNREADABLE, read_numbers


@pytest.mark.parametrize(
    ("text", "decimal", "expected"),
    [
        ("1.299,00 €", ",", "1299.00"),
        ("€ 12,5", ",", "12.5"),
        ("1 299,00\u00a0EUR", ",", "1299.00"),
        ("1\u202f299,00 €", ",", "1299.00"),
        ("1.299", ",", "1299"),
        ("0,99", ",", "0.99"),
        ("-5,00 €", ",", "-5.00"),
        ("−5,00", ",", "-5.00"),
        ("19,– €", ",", "19"),
        ("12.50", ",", UNREADABLE),
        ("1.2.3", ",", UNREADABLE),
        ("1,234,567.89 USD", ".", "1234567.89"),
        ("$1,980", ".", "1980"),
        ("¥1,980", ".", "1980"),
        ("1,980円", ".", "1980"),
        ("CHF 1'299.50", ".", "1299.50"),
        ("CHF 1'299.–", ".", "1299"),
        ("12,50", ".", UNREADABLE),
        ("₹1,29,999.00", ".", "129999.00"),
        ("12,34,56,789", ".", "123456789"),
        ("1,29,99", ".", UNREADABLE),
        ("1,2,999", ".", UNREADABLE),
        ("1980", ".", "1980"),
        ("sold out", ".", UNREADABLE),
        ("10 - 20 €", ",", UNREADABLE),
        ("2 for 5", ".", UNREADABLE),
        ("", ",", ""),
        (None, ",", None),
    ],
)
def test_a_price(text: str | None, decimal: str, expected: str | None) -> None:
    assert read_numbers(pa.array([text], pa.string()), decimal).to_pylist() == [expected]


def test_cents_become_a_price() -> None:
    assert read_numbers(pa.array([1299, None]), ".", 0.01).to_pylist() == [pytest.approx(12.99), None]
    assert [float(text) for text in read_numbers(pa.array(["1.299"]), ",", 0.01).to_pylist()] == [12.99]
