import pandas as pd
import pytest

from immr.data.validation.across_tables import shifted_times, unknown_items


@pytest.mark.parametrize(
    ("unknown", "found"),
    [
        (["1", "17", "5"], "2 without zeros at the start"),
        (["0017.0"], "1 without .0 at the end"),
        (["0017 ", "a1", "A 1", "A\u00a01"], "3 without spaces, 1 without regard to case"),
        (["cafe\u0301"], "1 after Unicode normalization"),
        (["other"], ""),
    ],
)
def test_what_programs_change_in_ids(unknown: list[str], found: str) -> None:
    items = pd.DataFrame({"item_id": ["01", "0017", "A1", "café"]})
    sentence = unknown_items(items, pd.DataFrame({"item_id": ["A1", *unknown]}))
    assert f"not in the catalogue: {len(unknown)} of {len(unknown) + 1}, such as {unknown[0]!r}" in sentence
    hint = f"; would match: {found}. Export ids as text, alike in both tables"
    assert sentence.endswith(hint) if found else "would match" not in sentence


def test_ids_that_all_match_need_no_sentence() -> None:
    items = pd.DataFrame({"item_id": ["01", None]})
    assert unknown_items(items, pd.DataFrame({"item_id": ["01", "01", None]})) == ""


def test_times_are_compared_although_no_position_could_be_read() -> None:
    queries = pd.DataFrame({"query_id": ["q"], "ts": [pd.Timestamp("2025-06-01T10:00Z")], "position": [None]})
    shown = queries.assign(ts=queries["ts"] + pd.Timedelta(hours=2), item_id="a")
    assert shifted_times(queries, shown).startswith("100% of the rows are 2 hours after their searches")
