import pytest

from immr.datasets.simulation_recipe import SimulationRecipe, category_noise, symmetric_noise
from immr.errors import RecipeError


def test_both_kinds_of_noise_have_the_same_share() -> None:
    anywhere, within = symmetric_noise(0.4), category_noise(0.4)
    assert anywhere.wrong_clicks == within.wrong_clicks == 0.4
    assert not anywhere.wrong_in_category and within.wrong_in_category


@pytest.mark.parametrize(
    "values", [{"shown": 0}, {"users": 0}, {"queries_per_photo": 0.5}, {"seed": -1}, {"wrong_clicks": 1.0}]
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="a simulation needs"):
        SimulationRecipe(**values)  # type: ignore[arg-type]
