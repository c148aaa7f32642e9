from pathlib import Path

import pytest
from typer.testing import CliRunner

from immr import recipes
from immr.cli import app
from immr.errors import RecipeError


def test_a_recipe_has_the_name_it_is_found_by() -> None:
    for name in recipes.RECIPES:
        assert recipes.by_name(name).name == name


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="concept, grocery, image_only"):
        recipes.by_name("concpet")


def test_variations_keep_everything_else() -> None:
    recipe = recipes.concept()
    varied = recipes.with_gate_margin(recipes.with_processes(recipe, 3), 0.01)
    assert (varied.train.processes, varied.gate.margin) == (3, 0.01)
    assert (varied.model, varied.governance) == (recipe.model, recipe.governance)


def test_training_needs_a_process() -> None:
    with pytest.raises(RecipeError, match="at least one process, not 0"):
        recipes.with_processes(recipes.concept(), 0)


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_a_recipe_survives_toml(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(recipes.to_toml(recipes.by_name(name)))
    assert recipes.by_name(str(file)) == recipes.by_name(name)


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "grocery"\ntrain.epochs = 4\n[train.fine_tune]\nepochs = 2\n')
    recipe, base = recipes.by_name(str(file)), recipes.grocery()
    assert recipe.train.fine_tune is not None and base.train.fine_tune is not None
    assert (recipe.name, recipe.train.epochs, recipe.train.fine_tune.epochs) == ("mine", 4, 2)
    assert recipe.train.fine_tune.learning_rate == base.train.fine_tune.learning_rate
    assert recipe.model == base.model


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[train]\n# comment\nepochs = 'many'\n", r"line 3: train\.epochs: Input should be a valid integer"),
        ("[train]\nepoch = 3\n", r"line 2: train\.epoch: there is no such setting, perhaps you mean epochs:"),
        ("[train]\nqqq = 3\n", r"line 2: train\.qqq: there is no such setting: correct it"),
        ("train.fine_tune.epoch = 3\n", r"line 1: train\.fine_tune\.epoch: there is no such setting"),
        ("[model]\nfusion = 'blend'\n", r"line 2: model\.fusion: Input should be 'image', "),
        ("model = 3\n", r"line 1: model: Input should be"),
        ("[train\n", r"cannot be read: .*line 1"),
        ("base = 'concpet'\n", "there is no recipe 'concpet'"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_line(tmp_path: Path, content: str, fault: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(RecipeError, match=fault):
        recipes.by_name(str(file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml cannot be read"):
        recipes.by_name("nowhere.toml")


def test_the_command_prints_a_recipe_to_start_from(tmp_path: Path) -> None:
    shown = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["recipe", "show", "concept"])
    assert shown.exit_code == 0 and '[model]\nimage_encoder = "efficientnet-lite0"' in shown.output
