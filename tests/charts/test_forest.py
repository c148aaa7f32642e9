"""Forest plots: intervals around zero, each with its text."""

import re

import pytest

from immr.charts.forest import ForestRow, forest_plot


def plot(*rows: ForestRow, width_px: int = 640) -> str:
    return forest_plot(
        rows,
        name="f",
        title="t",
        description="d",
        value_text=lambda value: f"{value:+.2f}",
        width_px=width_px,
    )


def test_an_interval_without_zero_is_marked() -> None:
    drawn = plot(ForestRow("better", 0.5, 0.2, 0.8), ForestRow("open", 0.1, -0.3, 0.5))
    assert drawn.count("whisker apart") == 1 and drawn.count("whisker open") == 1
    assert "+0.50 (+0.20 to +0.80)" in drawn


def test_zero_is_between_a_gain_and_a_loss() -> None:
    drawn = plot(ForestRow("gain", 0.5, 0.4, 0.6), ForestRow("loss", -0.5, -0.6, -0.4))
    zero = float(re.search(r'class="zero" x1="([0-9.]+)"', drawn).group(1))  # type: ignore[union-attr]
    gain, loss = (float(x) for x in re.findall(r'class="estimate apart" x="([0-9.]+)"', drawn))
    assert loss < zero < gain


def test_names_are_escaped_and_no_rows_draw_nothing() -> None:
    assert "&lt;b&gt;" in plot(ForestRow("<b>", 0.1, 0, 0.2))
    assert plot() == ""


@pytest.mark.parametrize("width_px", [330, 640])
def test_metrics_that_begin_alike_can_be_told_apart(width_px: int) -> None:
    """On a phone, "revenue per user" and the same with CUPED were both "revenue per u…"."""
    names = ["revenue per user, challenger-2", "revenue per user (CUPED), challenger-2"]
    drawn = plot(*(ForestRow(name, 0.1, 0, 0.2) for name in names), width_px=width_px)
    assert all(f">{name}</text>" in drawn for name in names)


def test_an_endless_name_is_cut() -> None:
    assert "…" in plot(ForestRow("country " + 50 * "x", 0.1, 0, 0.2))


def test_equal_bounds_at_zero_are_drawn() -> None:
    assert "whisker open" in plot(ForestRow("nothing", 0.0, 0.0, 0.0))
