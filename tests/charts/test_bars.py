from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from immr.charts.bars import Bar, bar_chart


def test_bars_are_as_long_as_their_values() -> None:
    markup = bar_chart(
        [Bar("v1", "p50", 10), Bar("v1", "p99", 40)],
        name="b",
        title="t",
        description="d",
        value_text=lambda value: f"{value} ms",
    )
    root = ElementTree.fromstring(markup)
    short, long = (float(rect.attrib["width"]) for rect in root.iterfind("rect"))
    assert long == pytest.approx(4 * short, rel=0.01)
    assert "40 ms" in markup


def test_no_bars_draw_nothing() -> None:
    assert bar_chart([], name="c", title="", description="", value_text=str) == ""
