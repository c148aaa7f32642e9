"""Columns that may mark drafts, and the query that leaves these out."""

import pyarrow as pa
import pytest

from immr.data.validation.hidden_rows import about_hidden_rows


@pytest.mark.parametrize(
    ("name", "values", "condition"),
    [
        ("Active (0/1)", ["1", "1", "0"], "\"Active (0/1)\" = '1'"),
        ("Product Visible?", ["N", "Y", "Y", None], "\"Product Visible?\" = 'Y'"),
        ("is_published", [True, False, True], "\"is_published\" = 'True'"),
        ("status", ["d'or", "d'or", "draft"], "\"status\" = 'd''or'"),
        ("status", ["active", "active"], ""),
        ("status", list("abcdefghij"), ""),
        ("Order Status", ["a", "b"], ""),
    ],
)
def test_what_may_be_hidden_is_named(name: str, values: list[object], condition: str) -> None:
    notes = about_hidden_rows(pa.RecordBatch.from_pydict({name: values, "title": ["x"] * len(values)}))
    assert [note.partition("WHERE ")[2] for note in notes] == ([condition] if condition else [])
