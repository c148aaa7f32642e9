from __future__ import annotations

from immr.charts import svg


def test_numbers_have_at_most_one_decimal() -> None:
    assert [svg.number(value) for value in (1.0, 1.26, 10.04)] == ["1", "1.3", "10"]


def test_text_and_titles_are_escaped() -> None:
    assert "&lt;b&gt;" in svg.text(0, 0, "<b>", "tick")
    chart = svg.svg([], "n", "<t>", "a & b", 10, 20)
    assert "&lt;t&gt;" in chart and "a &amp; b" in chart and 'viewBox="0 0 10 20"' in chart
