from dataclasses import fields

import numpy as np
import pytest

from immr.search.pages import Cursor, Wanted
from immr.types import Condition, Filters
from serving.wire.problems import ProblemError
from serving.wire.search.paging import Page, read, sign, version_of

OLD, NEW = b"old" * 11, b"new" * 11
EMBEDDING = np.array([0.6, -0.8, 0.0], np.float32)
CONDITIONS = (
    Condition("size", ranges=((40.0, None), (1.0, 2.0))),
    Condition("brand", ("a", "ä"), negated=True),
)
WANTED = Wanted(10, Filters("Früchte/Äpfel", 1.5, 9.0, "item", CONDITIONS), "brand", "blau", 5)
PAGE = Page("immr-1", 2, WANTED, Cursor(64, 3, frozenset([b"group1", b"group2"]), elsewhere=True), EMBEDDING)


def test_a_token_carries_the_whole_search() -> None:
    found = read(sign(PAGE, OLD), [NEW, OLD], "immr-1")
    assert (found.number, found.wanted, found.cursor) == (2, WANTED, PAGE.cursor)
    assert found.embedding_D.tolist() == EMBEDDING.tolist()
    assert version_of(sign(PAGE, NEW), [NEW]) == "immr-1"


def test_a_token_carries_every_field() -> None:
    """The fields are written out, so a field that is added later must be added there and above."""
    for record in (WANTED, WANTED.filters, PAGE.cursor):
        assert [each.name for each in fields(record) if getattr(record, each.name) == each.default] == []


def test_a_token_for_words_alone_has_no_embedding() -> None:
    page = Page("immr-1", 1, Wanted(3, text="red"), Cursor(), None)
    assert read(sign(page, NEW), [NEW], "immr-1") == page


def with_another_end(token: str) -> str:
    return token[:-1] + ("Q" if token.endswith("A") else "A")


@pytest.mark.parametrize(
    "token",
    [with_another_end(sign(PAGE, NEW)), "x" + sign(PAGE, NEW), "", "\ud800"],
    ids=["end", "start", "empty", "surrogate"],
)
def test_a_changed_token_is_not_ours(token: str) -> None:
    with pytest.raises(ProblemError, match="This page token was not issued by this service"):
        read(token, [NEW], "immr-1")
    assert version_of(token, [NEW]) is None


def test_a_token_of_another_version_is_refused() -> None:
    with pytest.raises(ProblemError, match="from immr-1, but immr-2 answers now"):
        read(sign(PAGE, NEW), [NEW], "immr-2")
