import pytest

from immr.errors import RecipeError
from immr.governance.governance_recipe import GovernanceRecipe


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clean_rounds", 0),
        ("clean_folds", 0),
        ("clean_folds", 1),
        ("min_share", 1.5),
        ("held_out_share", -0.1),
    ],
)
def test_impossible_values_are_refused_at_construction(name: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"{name} is {value} and must be from"):
        GovernanceRecipe(**{name: value})
