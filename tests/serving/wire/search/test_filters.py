"""The language of filters."""

import pytest

from immr.types import Condition
from serving.wire.problems import ProblemError
from serving.wire.search.filters import conditions

KINDS = {"category": "keyword", "price": "number", "brand": "keyword", "size": "number"}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["brand:Nike"], [Condition("brand", ("Nike",))]),
        (
            ["brand:Nike", "size:40", "brand:a:b, c"],
            [Condition("brand", ("Nike", "a:b, c")), Condition("size", ranges=((40.0, 40.0),))],
        ),
        (["-brand:Nike", "-brand:Puma"], [Condition("brand", ("Nike", "Puma"), negated=True)]),
        (["size:40..44"], [Condition("size", ranges=((40.0, 44.0),))]),
        (["size:40..", "size:..-1.5"], [Condition("size", ranges=((40.0, None), (None, -1.5)))]),
        (["size:40..40"], [Condition("size", ranges=((40.0, 40.0),))]),
        (["brand: Cafe\u0301 "], [Condition("brand", ("Café",))]),  # as attributes are read
        (["brand:44..40"], [Condition("brand", ("44..40",))]),
        (["brand:40..44"], [Condition("brand", ("40..44",))]),
        ([], []),
    ],
)
def test_filters_are_conditions(filters, expected):
    assert conditions(filters, KINDS) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour:red", "no attribute 'colour' in this catalogue. Use one of category, price, brand, size"),
        ("size:big", "'big' is not a number"),
        ("size:..", "'..' is not a number"),
        ("size:nan", "'nan' is not a number"),
        ("size:1_0", "'1_0' is not a number"),
        ("size:1..2..3", "'2..3' is not a number"),
        ("price:1e999", "'1e999' is not a number"),
        ("price:5..-1", "The range 5..-1 is reversed. Send -1..5"),
    ],
)
def test_an_invalid_filter_is_a_422(text, words):
    with pytest.raises(ProblemError, match="filter: ") as raised:
        conditions([text], KINDS)
    assert words in raised.value.problem.detail and raised.value.problem.status == 422


@pytest.mark.parametrize("text", ["brand: ", "brand:\u00a0", "-brand:\t"])
def test_a_blank_value_is_refused(text: str) -> None:
    with pytest.raises(ProblemError, match="filter: Send a value after brand:"):
        conditions([text], KINDS)
