import pytest

from immr.errors import RecipeError
from immr.ranking.ranker_recipe import RankerRecipe


@pytest.mark.parametrize(
    "values", [{"leaves": 33}, {"gate_users": 0.6, "stop_users": 0.5}, {"max_weight": 0.5}]
)
def test_values_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="RankerRecipe"):
        RankerRecipe(**values)  # type: ignore[arg-type]
