"""A readout as rows: totals and checks beside the comparisons, also where a comparison is withheld."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from immr.readout.comparison import Interval
from immr.readout.formats import tidy
from immr.readout.formats.text import check_rows
from immr.readout.preference import Preference
from immr.readout.readout import Readout, readout
from tests.readout.test_segments import TEST, shop


def by_metric(found: Readout) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in tidy.rows(found).to_pylist()}


def test_totals_of_each_variant_have_a_row() -> None:
    joined, searches = shop(users=400)
    found = readout(joined, TEST, searches)
    rows = by_metric(found)
    champion, challenger = found.variants
    for name in tidy.TOTALS:
        row = rows[name]
        assert (row["champion"], row["challenger"]) == (getattr(champion, name), getattr(challenger, name))
        assert (row["users_champion"], row["users_challenger"]) == (200, 200) and row["difference"] is None


def test_totals_stay_if_the_comparison_is_withheld() -> None:
    joined, searches = shop(users=1)
    found = readout(joined, TEST, searches)
    assert found.withheld
    rows = by_metric(found)
    assert set(tidy.TOTALS) <= set(rows) and "CTR" not in rows and rows["queries"]["champion"] == 1


def test_what_is_checked_has_the_names_that_are_printed() -> None:
    joined, searches = shop(users=400)
    timed = searches.append_column("took_ms", [[20.0] * 400]).append_column("results", [[12] * 400])
    found = readout(joined, TEST, timed)
    rows = by_metric(found)
    header = check_rows(found)[0]
    assert {"users by weight", "answered by another", "without results"} <= set(header) & set(rows)
    assert rows["users by weight"]["champion"] == rows["users by weight"]["challenger"] == 200
    assert rows["p99 (ms)"]["challenger"] == 20 and rows["without results"]["champion"] == 0


def test_a_preference_is_a_row_too() -> None:
    joined, searches = shop(users=400)
    preferred = Preference(90, 120, 50, 40, 0.1, Interval(0.02, 0.18), Interval(-0.05, 0.25), 0.01)
    rows = by_metric(replace(readout(joined, TEST, searches), preference=preferred))
    row = rows["preference"]
    assert (row["difference"], row["interval_low"], row["p_value"]) == pytest.approx((0.1, 0.02, 0.01))
    assert row["differs"] is False and row["users_challenger"] == 90
    assert (rows["queries won"]["champion"], rows["queries won"]["challenger"]) == (40, 50)
