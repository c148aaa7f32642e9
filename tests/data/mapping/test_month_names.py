"""Months by name become numbers, in the languages of shops."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from immr.data.column_types import convert
from immr.data.contract import TIMESTAMP
from immr.data.mapping.month_names import with_month_numbers
from immr.data.mapping.times import read_times


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("14. März 2025", "%d. %B %Y"),
        ("14. MÄRZ 2025", "%d. %B %Y"),
        ("14. Mär. 2025", "%d. %b %Y"),
        ("14 mars 2025", "%d %B %Y"),
        ("14 de marzo de 2025", "%d de %B de %Y"),
        ("March 14, 2025", "%B %d, %Y"),
        ("Mar. 14, 2025", "%b %d, %Y"),
        ("Mar. 14, 2025", "%b. %d, %Y"),
        ("14.Mar.2025", "%d.%b.%Y"),
        ("14MAR2025", "%d%b%Y"),
        ("Fri, 14 Mar 2025 00:00:00 +0000", "%a, %d %b %Y %H:%M:%S %z"),
    ],
)
def test_a_date_with_the_name_of_its_month(text: str, pattern: str) -> None:
    found = convert(read_times(pa.array([text, "", "soon"]), pattern), TIMESTAMP)[0].to_pylist()
    assert found == [datetime(2025, 3, 14, tzinfo=UTC), None, None]


def test_every_month_of_a_language() -> None:
    names = [
        "janv.",
        "févr.",
        "mars",
        "avr.",
        "mai",
        "juin",
        "juil.",
        "août",
        "sept.",
        "oct.",
        "nov.",
        "déc.",
    ]
    texts, pattern = with_month_numbers(pa.array([f"1 {name} 2025" for name in names]), "%d %b %Y")
    assert texts.to_pylist() == [f"1 {number:02} 2025" for number in range(1, 13)]
    assert pattern == "%d %m %Y"


def test_a_word_that_begins_like_a_month_stays() -> None:
    texts, _ = with_month_numbers(pa.array(["14 Marzipan 2025"]), "%d %b %Y")
    assert texts.to_pylist() == ["14 Marzipan 2025"]


def test_texts_of_a_pattern_without_names_stay() -> None:
    texts = pa.array(["1 mars 2025"])
    assert with_month_numbers(texts, "%d.%m.%Y") == (texts, "%d.%m.%Y")
