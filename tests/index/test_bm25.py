"""Words of items and queries."""

import pytest

from immr.index.bm25 import of_payload, of_query, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Birnen-Mus, 1,5l", ["birnen", "mus", "1", "5l"]),
        ("ÄPFEL Straße café", ["apfel", "strasse", "cafe"]),
        ("牛乳パック ABC日本x", ["牛乳", "乳パ", "パッ", "ック", "abc", "日本", "x"]),
        ("水", ["水"]),
        ("  ?! ", []),
        ("\ud800", []),
    ],
)
def test_terms(text, expected):
    assert list(terms(text)) == expected


def test_a_query_has_each_term_once():
    assert of_query("red Red RED").weights == (1.0,)
    assert of_query("").numbers == ()
    assert list(of_query("b a c").numbers) == sorted(of_query("c b a").numbers)


def test_the_title_counts_more_than_the_category_and_numbers_of_classes_do_not_count():
    payload = {
        "title": "apple",
        "category": "Fruit",
        "attributes": {"brand": "Nike", "size": 4.0, "class": "17"},
    }
    found = of_payload(payload)
    weight = dict(zip(found.numbers, found.weights, strict=True))
    [apple], [fruit], [nike] = (of_query(text).numbers for text in ("apple", "fruit", "nike"))
    assert weight[apple] > weight[fruit] == weight[nike] > 0
    assert len(weight) == 3


def test_a_word_of_a_long_title_counts_less():
    [word] = of_query("apple").numbers
    short, long = (
        {"title": title, "category": "Fruit"} for title in ("apple", "apple " + "of many words " * 5)
    )
    weights = [
        dict(zip(found.numbers, found.weights, strict=True)) for found in map(of_payload, (short, long))
    ]
    assert weights[0][word] > weights[1][word]
