"""Numbers in sentences."""

import pytest

from immr.machine.wording import by_number, counted


@pytest.mark.parametrize(
    ("noun", "several"),
    [
        ("item", "items"),
        ("class", "classes"),
        ("search", "searches"),
        ("query", "queries"),
        ("day", "days"),
        ("additional picture", "additional pictures"),
    ],
)
def test_a_noun_follows_its_number(noun: str, several: str) -> None:
    assert counted(1, noun) == f"1 {noun}"
    assert counted(0, noun) == f"0 {several}"
    assert counted(2_000, noun) == f"2,000 {several}"


def test_a_verb_follows_its_number() -> None:
    assert [by_number(number, "is", "are") for number in (0, 1, 2)] == ["are", "is", "are"]
