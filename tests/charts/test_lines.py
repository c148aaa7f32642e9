from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from immr.charts.lines import Point, Series, line_chart
from immr.charts.ticks import number_ticks

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


def test_a_page_can_tell_which_texts_are_times() -> None:
    timed = [
        Point(120.0 * at, 1.0, 1.0, 1.0, f"00:0{2 * at}: 100 %", f"00:0{2 * at}", 120.0 * at)
        for at in range(3)
    ]
    root = drawn(Series("a", timed))
    ticks = [text.attrib.get("data-time") for text in root.iterfind(f"{SVG}text") if ":" in (text.text or "")]
    assert ticks == ["0", "60", "120", "180", "240"]
    titles = [dict(title.attrib) for title in root.iterfind(f"{SVG}g/{SVG}title")]
    assert titles[1] == {"data-time": "120", "data-utc": "00:02"}


def test_a_higher_value_is_higher_on_the_page() -> None:
    line = drawn(Series("a", points(1, 4))).find(f"{SVG}polyline")
    assert line is not None
    (_, low), (_, high) = (map(float, pair.split(",")) for pair in line.attrib["points"].split())
    assert high < low


def test_no_points_draw_nothing() -> None:
    assert line_chart([], name="c", title="", description="", value_text=str) == ""


@pytest.mark.parametrize("values", [(0.0,), (0.3,), (0.0, 0.0)])
def test_flat_and_single_points_are_drawn(values: tuple[float, ...]) -> None:
    assert drawn(Series("a", points(*values))).find(f"{SVG}polyline") is not None


def test_lines_without_intervals_have_no_band() -> None:
    exact = [Point(epoch, 1.0, 1.0, 1.0, "") for epoch in (1, 2)]
    assert drawn(Series("loss", exact)).find(f"{SVG}polygon") is None


def test_the_x_axis_can_show_numbers() -> None:
    epochs = [Point(epoch, 1.0, 1.0, 1.0, "") for epoch in range(1, 11)]
    markup = line_chart(
        [Series("loss", epochs)], name="c", title="", description="", value_text=str, x_ticks=number_ticks
    )
    assert all(f">{text}</text>" in markup for text in ("2", "4", "6", "8", "10"))
