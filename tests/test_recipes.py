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


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("model.image_size_px = 60", "^image_size_px is 60, but .* needs a multiple of 32: use 64"),
        ("train.fine_tune.image_size_px = 60", "in train.fine_tune, image_size_px is 60"),
        ("model.image_encoder = 'resnet'", "the image encoder 'resnet' is unknown"),
        ("model.text_encoder = 'bert'", "the text encoder 'bert' is unknown"),
    ],
)
def test_encoders_are_checked_before_a_step(content: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(RecipeError, match=fault):
        recipes.check_encoders(recipes.by_name(str(file)))


def test_built_in_recipes_pass_the_check_of_encoders() -> None:
    for name in recipes.RECIPES:
        recipes.check_encoders(recipes.by_name(name))


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
        ("[train.epochs]\nmost = 3\n", r"mine\.toml: train\.epochs: Input should be a valid integer"),
        ("[model.dim.text]\nsize = 3\n", r"model\.dim: Input should be a valid integer"),
        ("a." * 2000 + "b = 1\n", "recursion depth"),
        ("name = ' '\n", "line 1: name: a name has 1 to 200 characters, all in one line"),
        (f"name = '{'x' * 201}'\n", "line 1: name: a name has 1 to 200 characters"),
        ('name = "a\\nb"\n', "line 1: name: a name has 1 to 200 characters"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_line(tmp_path: Path, content: str, fault: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(RecipeError, match=fault):
        recipes.by_name(str(file))


@pytest.mark.parametrize("name", ["nowhere", "no\0where"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(RecipeError, match=f"{name}\\.toml cannot be read"):
        recipes.by_name(f"{name}.toml")


def test_a_base_is_beside_the_file_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file of that name in the working folder is not meant."""
    for folder, epochs in (("recipes", 3), ("elsewhere", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shared.toml").write_text(f"train.epochs = {epochs}\n")
    (tmp_path / "recipes" / "mine.toml").write_text('base = "shared.toml"\n')
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert recipes.by_name("../recipes/mine.toml").train.epochs == 3


def test_the_command_prints_a_recipe_to_start_from(tmp_path: Path) -> None:
    shown = CliRunner(env={"IMMR_HOME": str(tmp_path)}).invoke(app, ["recipe", "show", "concept"])
    assert shown.exit_code == 0 and '[model]\nimage_encoder = "efficientnet-lite0"' in shown.output


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("train.batch_size = 0", r"line 1: train\.batch_size: Input should be greater than or equal to 1"),
        ("train.epochs = -1", r"train\.epochs: Input should be greater than or equal to 0"),
        ("train.learning_rate = nan", r"train\.learning_rate: Input should be"),
        ("train.learning_rate = inf", r"train\.learning_rate: Input should be less than"),
        ("train.dropout = 1.0", r"train\.dropout: Input should be less than 1"),
        ("train.fine_tune.batch_size = 0", r"train\.fine_tune\.batch_size: Input should be greater"),
        ("model.dim = 0", r"model\.dim: Input should be greater"),
        ("model.image_size_px = 100000", r"model\.image_size_px: Input should be less"),
        ("gate.confidence = 95", r"gate\.confidence: Input should be less than 1"),
        ("gate.metric = 'recall@7'", r"line 1: gate\.metric: Input should be 'recall@1', 'recall@5', "),
        ("gate.margin = nan", r"gate\.margin: Input should be"),
        ("ranking.freshness_half_life_days = 0", r"freshness_half_life_days: Input should be greater than 0"),
        ("ranking.text_weight = 1.5", r"ranking\.text_weight: Input should be less"),
        (
            "gate.slice_margins = {a = -5}",
            r"gate\.slice_margins\.a: Input should be greater than or equal to -1",
        ),
        ("gate.slice_queries = -1", r"gate\.slice_queries: Input should be greater than or equal to 0"),
        ("model.plain_share = 1.0", r"line 1: model\.plain_share: Input should be less than 1"),
        ("train.epochs = true", r"line 1: train\.epochs: Input should be a valid integer: correct"),
        ("governance.clean_folds = true", r"governance\.clean_folds: Input should be a valid integer"),
        ('train.epochs = "10"', r"train\.epochs: Input should be a valid integer"),
        ("train.dropout = false", r"train\.dropout: Input should be a valid number"),
        ("train.scale = true", r"train\.scale: Input should be a valid number"),
        ("gate.slice_margins = {a = true}", r"slice_margins\.a: Input should be a valid number"),
        ("match.exact_recall = 95", r"match\.exact_recall: Input should be less"),
        ("governance.min_share = 70", r"mine\.toml: .*min_share is 70"),
        ("base = 3", r"mine\.toml: base is 3: write the name of a recipe"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_is_trained(
    tmp_path: Path, line: str, fault: str
) -> None:
    (tmp_path / "mine.toml").write_text(f"{line}\n")
    with pytest.raises(RecipeError, match=fault):
        recipes.by_name(str(tmp_path / "mine.toml"))


def test_values_at_the_end_of_their_range_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "model.plain_share = 0\ngate = {slice_queries = 0, slice_clusters = 0, slice_margins = {a = -1}}\n"
        "match.min_photos = 0\n"
    )
    recipe = recipes.by_name(str(tmp_path / "mine.toml"))
    assert (recipe.model.plain_share, recipe.match.min_photos) == (0, 0)
    gate = recipe.gate
    assert (gate.slice_queries, gate.slice_clusters, gate.slice_margins) == (0, 0, {"a": -1})


def test_a_file_that_is_its_own_base_is_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(f'base = "{second}"\n')
    second.write_text(f'base = "{first}"\n')
    with pytest.raises(RecipeError, match=r"first\.toml has itself as its base"):
        recipes.by_name(str(first))
    second.write_text('base = "image_only"\ntrain.epochs = 3\n')
    assert (recipes.by_name(str(first)).train.epochs, recipes.by_name(str(first)).name) == (3, "first")


def test_a_file_may_come_from_windows(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[train]\r\nepochs = 3\r\n")
    assert recipes.by_name(str(tmp_path / "mine.toml")).train.epochs == 3
