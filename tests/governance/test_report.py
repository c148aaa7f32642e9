"""The report starts with a summary, and shows each reason with its count and a few examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from immr.governance import report
from immr.governance.step_counts import Example


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training set of two classes, of which one has two items."""
    picture = str(tmp_path / "photo.png")
    Image.new("RGB", (20, 20), "teal").save(picture)
    items = [{"class_id": n // 2, "image": picture, "title": f"<Tea {n}>"} for n in range(3)]
    photos = [{"class_id": 0, "image": picture, "weight": 0.75}] * 3
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "items.parquet")
    pq.write_table(pa.Table.from_pylist(photos), tmp_path / "queries.parquet")
    (tmp_path / "rejected").mkdir()
    rejected = [{"item_id": f"bad-{n}", "reason": "price is negative"} for n in range(9)]
    rejected.append({"item_id": "untitled", "reason": "title is missing"})
    pq.write_table(pa.Table.from_pylist(rejected), tmp_path / "rejected" / "items.parquet")
    return tmp_path


def step(name: str, table: str, rows_in: int, dropped: dict[str, int]) -> dict[str, Any]:
    rows_out = rows_in - sum(dropped.values())
    return {
        "name": name,
        "table": table,
        "rows_in": rows_in,
        "rows_out": rows_out,
        "dropped": dropped,
        "note": "",
    }


MANIFEST = {
    "hash": "abc123",
    "classes": 2,
    "outputs": {"items": {"rows": 3}, "queries": {"rows": 1200}, "judgements": {"rows": 4}},
    "steps": [
        step("contract", "items", 13, {"title is missing": 1, "price is negative": 9}),
        step("edges", "queries", 1500, {"no click": 100, "clicks disagree": 150}),
        step("balance", "queries", 1250, {"no click": 50}),
    ],
    "recipe": {"min_share": 0.5},
}


def written(folder: Path, examples: list[Example]) -> str:
    report.write(folder, MANIFEST, examples)
    return (folder / "report.html").read_text()


def test_it_starts_with_the_outcome_of_the_photos(folder: Path) -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", written(folder, [])).split())
    assert "1,200 of 1,500 photos in the click log are used for training (80 %), in 2 classes" in page
    assert "reasons to drop a photo: 150 no click 150 clicks disagree" in page
    assert page.index("1,200 of 1,500 photos") < page.index("Rows in and out of each step")


def test_each_reason_has_its_count_and_examples(folder: Path) -> None:
    row = {"item_id": "tea", "image": str(folder / "photo.png"), "share": 0.4, "class_id": 0}
    examples = [Example("edges", "no click", 100, {**row, "query_id": "q1"})]
    examples += [Example("edges", "clicks disagree", 150, {**row, "query_id": f"q{n}"}) for n in range(2, 7)]
    page = written(folder, examples)
    assert page.index("<b>150</b> clicks disagree <span") < page.index("<b>100</b> no click <span")
    assert page.count("tea: 40% of the evidence") == 6


def test_rejected_rows_are_counted_and_five_are_shown(folder: Path) -> None:
    page = written(folder, [])
    assert "<b>9</b> price is negative" in page and "<b>1</b> title is missing" in page
    assert [f"item_id: bad-{n}" in page for n in range(9)] == [True] * 5 + [False] * 4
    assert "item_id: untitled" in page


def test_rejected_rows_of_other_columns_and_unprintable_times_are_shown(folder: Path) -> None:
    far = pa.array([2**60], pa.int64()).cast(pa.timestamp("ms"))
    rows = pa.table({"updated_at": far, "line": ["x;y"], "reason": ["title is missing"]})
    pq.write_table(rows, folder / "rejected" / "items-2.parquet")
    assert "updated_at: a timestamp[ms] that cannot be printed, line: x;y" in written(folder, [])


def test_titles_are_escaped_and_groups_are_shown(folder: Path) -> None:
    page = written(folder, [])
    assert "&lt;Tea 0&gt;" in page and "<Tea 0>" not in page
    assert "several items, one class" in page
