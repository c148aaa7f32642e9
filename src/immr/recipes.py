"""WHAT is done: functions that return frozen recipes. Vary one with `dataclasses.replace`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from immr.errors import RecipeError
from immr.evaluation.gate_recipe import GateRecipe
from immr.governance.governance_recipe import GovernanceRecipe
from immr.model.model_recipe import ModelRecipe
from immr.search.ranking import RankingRecipe
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.train_recipe import TrainRecipe


@dataclass(frozen=True)
class Recipe:
    """One way to go round the loop."""

    name: str
    governance: GovernanceRecipe = field(default_factory=GovernanceRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    gate: GateRecipe = field(default_factory=GateRecipe)
    ranking: RankingRecipe = field(default_factory=RankingRecipe)


def concept() -> Recipe:
    """Picture and text, joined by concept-aware fusion."""
    return Recipe(name="concept")


def image_only() -> Recipe:
    """The picture alone: what a shop has before it reads its own texts."""
    return Recipe(name="image_only", model=ModelRecipe(fusion="image"))


def demo() -> Recipe:
    """The default fusion on a frozen encoder: as good as minutes of training allow."""
    return replace(concept(), name="demo")


def grocery() -> Recipe:
    """The picture alone, and the encoder learns too: minutes longer, and far better on shoppers' photos."""
    return Recipe(
        name="grocery",
        model=ModelRecipe(fusion="image", plain_share=0.0, shared_projection=False),
        train=TrainRecipe(fine_tune=FineTuneRecipe(epochs=16)),
    )


def smoke() -> Recipe:
    """Seconds, not minutes: for tests of the loop, not for shoppers."""
    return Recipe(
        name="smoke",
        model=ModelRecipe(image_size_px=96, dim=32, plain_dim=32, concepts=8, max_tokens=32),
        train=TrainRecipe(epochs=8, batch_size=32, views=1, checkpoint_every_steps=20),
        gate=GateRecipe(floor=0.05, margin=-0.5, bootstrap_rounds=200),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    function.__name__: function for function in (concept, demo, image_only, grocery, smoke)
}


def by_name(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        RecipeError: no such recipe; the message lists those there are.
    """
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe {name!r}; take one of: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]()


def with_processes(recipe: Recipe, processes: int) -> Recipe:
    """The same recipe, trained by another number of processes.

    Raises:
        RecipeError: there would be none.
    """
    if processes < 1:
        raise RecipeError(f"training by {processes} processes cannot be: take 1 or more")
    return replace(recipe, train=replace(recipe.train, processes=processes))


def with_gate_margin(recipe: Recipe, margin: float) -> Recipe:
    """The same recipe behind a stricter or milder gate."""
    return replace(recipe, gate=replace(recipe.gate, margin=margin))
