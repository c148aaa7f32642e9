"""Segments: which ones differ, corrected for how many there are, on events with known truth."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment, Variant
from immr.readout.formats import tidy
from immr.readout.formats.text import segment_rows
from immr.readout.readout import readout
from immr.readout.segments import MAX_SEGMENTS, OTHER, UNKNOWN, Segment, _order, holm, segments
from immr.storage.table_files import to_csv
from tests.readout.even_experiment import EXPERIMENT, NOON

TEST = replace(EXPERIMENT, planned_users=4000, min_days=0)


def shop(users: int = 4000, countries: int = 2) -> tuple[pa.Table, pa.Table]:
    """One search of ten items per user; in country c1 the challenger gets twice the clicks."""
    rng = np.random.default_rng(0)
    shown, asked = [], []
    for number in range(users):
        challenged, country = number % 2 == 1, f"c{number // 2 % countries + 1}"
        who = {
            "query_id": f"q{number}",
            "user_id": f"u{number}",
            "variant": "challenger" if challenged else "champion",
            "model_version": "immr-2" if challenged else "immr-1",
            "ts": NOON + timedelta(days=number * 3 // users),
        }
        context = {"country": country} if number // 2 // countries % 10 else {}
        asked.append(who | {"fallback": False, "context": json.dumps(context) if context else ""})
        rate = 0.1 * (2 if challenged and country == "c1" else 1)
        for position in range(1, 13):
            clicked = bool(rng.random() < rate)
            shown.append(
                who | {"item_id": f"i{position}", "position": position, "clicked": clicked, "ordered": False}
            )
    return pa.Table.from_pylist(shown), pa.Table.from_pylist(asked)


def by_value(found: tuple[Segment, ...]) -> dict[str, Segment]:
    return {each.value: each for each in found}


def test_the_country_in_which_versions_differ_is_found() -> None:
    found = by_value(segments(*shop(), TEST, ["country"]))
    assert list(found) == ["c1", "c2", UNKNOWN]
    assert (found["c1"].differs, found["c2"].differs) == (True, False)
    best = found["c1"]
    assert best.difference is not None and best.always_valid is not None
    assert best.always_valid.low <= best.difference <= best.always_valid.high
    assert best.adjusted_p_value is not None and best.p_value is not None
    assert best.p_value <= best.adjusted_p_value < 0.01
    assert sum(sum(each.users.values()) for each in found.values()) == 4000


def test_a_value_of_digits_that_are_no_decimals_is_a_word() -> None:
    assert sorted(["²", "10", "9", OTHER, "a"], key=_order) == ["9", "10", "a", "²", OTHER]


def test_sums_over_days_and_ranks_are_those_of_the_readout() -> None:
    joined, searches = shop()
    whole = {side.name: side for side in readout(joined, TEST, searches).variants}
    found = segments(joined, searches, TEST, ["day", "rank"])
    for dimension, values in (
        ("day", ["2026-05-01", "2026-05-02", "2026-05-03"]),
        ("rank", [*map(str, range(1, 11)), "over 10"]),
    ):
        parts = [each for each in found if each.dimension == dimension]
        assert [each.value for each in parts] == values
        for name, side in whole.items():
            assert sum(each.impressions[name] for each in parts) == side.impressions
            assert sum(each.clicks[name] for each in parts) == side.clicks


def test_categories_come_from_a_table_of_items() -> None:
    joined, searches = shop(users=400)
    categories = pa.table({"item_id": ["i1", "i2"], "category": ["Fruit", "Milk"]})
    found = by_value(segments(joined, searches, TEST, ["category"], categories))
    assert found["Fruit"].impressions == {"champion": 200, "challenger": 200}
    assert found[UNKNOWN].impressions["champion"] == 2000
    with pytest.raises(ExperimentError, match="the items' categories are unknown"):
        segments(joined, searches, TEST, ["category"])


def test_more_segments_share_the_error_rate_and_small_ones_are_merged() -> None:
    joined, searches = shop(countries=40)
    alone = segments(joined, searches, TEST, ["country"])
    assert len(alone) == MAX_SEGMENTS and OTHER in by_value(alone)
    small = by_value(alone)["c1"]
    assert small.difference is None and small.differs is None  # 45 users per variant are too few
    assert small.lacks == "too few users" and by_value(alone)[OTHER].lacks == ""
    assert replace(small, users={"champion": 200, "challenger": 200}).lacks == "too few clicks"
    [one] = [each for each in segments(joined, searches, TEST, ["day"]) if each.value == "2026-05-01"]
    together = segments(joined, searches, TEST, ["day", "rank", "country"])
    [wider] = [each for each in together if each.value == "2026-05-01"]
    assert one.always_valid is not None and wider.always_valid is not None
    assert wider.always_valid.high - wider.always_valid.low > one.always_valid.high - one.always_valid.low


def test_holms_p_values_follow_the_definition() -> None:
    assert holm(np.array([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([])).tolist() == []


def test_a_test_without_a_challenger_has_no_segments() -> None:
    alone = Experiment("alone", "salt", (Variant("champion", "http://a", "immr-1", 1.0),), started=NOON)
    with pytest.raises(ExperimentError, match="only those have segments"):
        segments(*shop(users=10), alone, ["day"])


def test_printed_and_exported_rows_have_the_same_figures() -> None:
    joined, searches = shop()
    found = segments(joined, searches, TEST, ["country"])
    table = tidy.rows(readout(joined, TEST, searches), found)
    assert table.schema == tidy.COLUMNS
    rows = [row for row in table.to_pylist() if row["dimension"] == "country"]
    by_segment = {row["segment"]: row for row in rows if row["metric"] == "CTR"}
    assert by_segment["c1"]["differs"] is True
    totals = {row["metric"]: (row["champion"], row["challenger"]) for row in rows if row["segment"] == "c1"}
    assert totals["clicks"] == tuple(found[0].clicks.values()) and found[0].value == "c1"
    assert table.to_pylist()[0]["dimension"] == ""
    lines = to_csv(table).splitlines()
    assert len(lines) == table.num_rows + 1 and lines[0].startswith("experiment,dimension,segment,metric")
    assert repr(by_segment["c1"]["difference"]) in "".join(lines)  # in full
    header, first, *_ = segment_rows(found)
    assert len(header) == len(first) and first[-1] == "differs"
