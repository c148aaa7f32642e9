from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.charts import Bar, Point, Series, bar_chart, line_chart, nice_steps, time_steps

SVG = "{http://www.w3.org/2000/svg}"


def points(*values: float) -> list[Point]:
    return [
        Point(1000.0 + 10 * place, value, value * 0.5, value * 1.5, f"point {place}")
        for place, value in enumerate(values)
    ]


def drawn(*series: Series) -> ElementTree.Element:
    markup = line_chart(
        series, name="c", title="A <title>", description="what & why", value_text=lambda value: f"{value:g}"
    )
    return ElementTree.fromstring(str(markup).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_a_chart_has_a_title_and_a_description_that_are_escaped() -> None:
    root = drawn(Series("v", points(1, 2)))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "c-title c-desc"
    assert root.findtext(f"{SVG}title") == "A <title>"
    assert root.findtext(f"{SVG}desc") == "what & why"


def test_each_series_has_a_line_a_band_and_its_points() -> None:
    root = drawn(Series("a", points(1, 2, 3), 0), Series("b", points(3, 2, 1), 1), Series("none", [], 2))
    assert len(root.findall(f"{SVG}polyline")) == len(root.findall(f"{SVG}polygon")) == 2
    assert [title.text for title in root.iterfind(f"{SVG}g/{SVG}title")] == [
        "point 0",
        "point 1",
        "point 2",
    ] * 2


def test_a_higher_value_is_higher_on_the_page() -> None:
    line = drawn(Series("a", points(1, 4))).find(f"{SVG}polyline")
    assert line is not None
    (_, low), (_, high) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert high < low


def test_nothing_to_draw_is_nothing() -> None:
    assert line_chart([], name="c", title="", description="", value_text=str) == ""
    assert bar_chart([], name="c", title="", description="", value_text=str) == ""


@pytest.mark.parametrize("values", [(0.0,), (0.3,), (0.0, 0.0)])
def test_flat_and_lonely_points_are_drawn(values: tuple[float, ...]) -> None:
    assert drawn(Series("a", points(*values))).find(f"{SVG}polyline") is not None


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


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(1, 8))
def test_steps_are_few_and_hold_the_span(low: float, span: float, about: int) -> None:
    steps = nice_steps(low, low + span, about)
    slack = 1e-6 * max(1.0, abs(low + span))
    assert steps[0] <= low + slack
    assert steps[-1] >= low + span - slack
    assert 2 <= len(steps) <= 3 * about + 3


def test_times_are_round() -> None:
    assert [text for _, text in time_steps(0, 60, 4)] == [
        "00:00:00",
        "00:00:15",
        "00:00:30",
        "00:00:45",
        "00:01:00",
    ]
    assert [text for _, text in time_steps(0, 86400, 4)][1] == "06:00"
    assert all(math.fmod(at_s, 86400) == 0 for at_s, _ in time_steps(5e8, 5e8 + 40 * 86400, 4))
