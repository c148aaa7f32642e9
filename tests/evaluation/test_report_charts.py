from collections.abc import Callable

from immr.evaluation.report_charts import calibration_chart, loss_chart, slice_chart
from immr.evaluation.result import Evaluation


def test_slices_follow_all_photos(model: Callable[[float], Evaluation]) -> None:
    evaluation = model(1.0)
    chart = slice_chart(evaluation, "recall@1")
    assert chart.index("all photos") < chart.index("Fruit (")
    assert all(f"{name} ({part.queries})" in chart for name, part in evaluation.slices.items())


def test_the_champion_is_beside_each_slice(model: Callable[[float], Evaluation]) -> None:
    candidate, champion = model(0.8), model(1.5)
    chart = slice_chart(candidate, "recall@1", {"immr-1": champion})
    assert chart.count(">immr-1</text>") == 1 + len(candidate.slices)
    for part in champion.slices.values():
        assert f">{part.intervals['recall@1'].mean:.3f}</text>" in chart


def test_losses_are_drawn_from_the_second_epoch_on() -> None:
    curves = {"loss": [2.0, 1.0], "loss_document": [3.0, float("nan"), 1.5], "lr": [0.1, 0.1]}
    drawn = loss_chart(curves)
    assert [series.name for series in drawn.series] == ["loss", "loss_document"]
    assert [point.value for point in drawn.series[1].points] == [3.0, 1.5]
    assert loss_chart({"loss": [2.0]}).series == []


def test_the_diagonal_is_drawn_only_beside_answers(model: Callable[[float], Evaluation]) -> None:
    bins = model(1.0).calibration.bins
    assert "score = share right" in calibration_chart(bins)
    assert "% of" in calibration_chart(bins)
    assert "% of" not in calibration_chart([])
