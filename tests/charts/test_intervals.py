from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

from immr.charts.intervals import IntervalRow, interval_chart


def drawn(*rows: IntervalRow) -> ElementTree.Element:
    return ElementTree.fromstring(interval_chart(rows, name="i", title="t", description="d"))


def test_a_row_has_its_interval_around_its_dot() -> None:
    root = drawn(IntervalRow("Fruit <1>", 0.5, 0.4, 0.7), IntervalRow("all", 0.8, 0.7, 0.9))
    whiskers = [line for line in root.iterfind("line") if line.attrib["class"].startswith("whisker")]
    first, second = (float(dot.attrib["cx"]) for dot in root.iterfind("g/circle"))
    assert float(whiskers[0].attrib["x1"]) < first < float(whiskers[0].attrib["x2"])
    assert first < second
    assert "Fruit <1>" in [text.text for text in root.iterfind("text")]


def test_infinite_intervals_are_clipped_to_the_axis() -> None:
    one, whole = (drawn(IntervalRow("r", 0.5, *bounds)) for bounds in ((-math.inf, math.inf), (0.0, 1.0)))
    assert ElementTree.tostring(one) == ElementTree.tostring(whole)


def test_long_names_are_shortened() -> None:
    assert "a" * 25 + "…" in [text.text for text in drawn(IntervalRow("a" * 40, 0, 0, 0)).iterfind("text")]


def test_no_rows_draw_nothing() -> None:
    assert interval_chart([], name="i", title="", description="") == ""
