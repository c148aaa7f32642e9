"""Recipes: frozen settings of the loop's steps, built in or from a TOML file. Vary with `dataclasses.replace`."""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from immr.errors import RecipeError
from immr.evaluation.gate_recipe import GateRecipe
from immr.evaluation.matches.rule import MatchRecipe
from immr.governance.governance_recipe import GovernanceRecipe
from immr.model.model_recipe import ModelRecipe
from immr.ranking.ranker_recipe import RankerRecipe
from immr.search.ranking import RankingRecipe
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.train_recipe import TrainRecipe

if TYPE_CHECKING:
    from immr.registry.registry import Registry
    from immr.types import ModelVersion

KEPT = "recipe.toml"
"""A version's own recipe is attached to it under this name."""


@dataclass(frozen=True)
class Recipe:
    """The settings of one run of the loop."""

    name: str
    governance: GovernanceRecipe = field(default_factory=GovernanceRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    gate: GateRecipe = field(default_factory=GateRecipe)
    ranking: RankingRecipe = field(default_factory=RankingRecipe)
    match: MatchRecipe = field(default_factory=MatchRecipe)
    ranker: RankerRecipe = field(default_factory=RankerRecipe)


def concept() -> Recipe:
    """Picture and text, combined by concept-aware fusion, on a frozen encoder."""
    return Recipe(name="concept")


def image_only() -> Recipe:
    """Pictures only, on a frozen encoder."""
    return Recipe(name="image_only", model=ModelRecipe(fusion="image"))


def grocery() -> Recipe:
    """Pictures only, with the encoder fine-tuned: slower to train, and far better on shoppers' photos."""
    return Recipe(
        name="grocery",
        model=ModelRecipe(
            fusion="image", plain_share=0.0, shared_projection=False, picture_as_photo=0.5, document_views=2
        ),
        train=TrainRecipe(picture_weight=0.25, fine_tune=FineTuneRecipe(epochs=16)),
    )


def zero_shot() -> Recipe:
    """The pretrained image encoder as it is, without training: for `immr start`, where there are no clicks."""
    return Recipe(name="zero_shot", model=ModelRecipe(fusion="image", dim=256, plain_share=0.0))


def many_classes() -> Recipe:
    """Thousands of classes with few photos each, of drawings: framed, and compared with each other.

    Photos and documents learn from each other instead of from classifier rows, which too few photos visit.
    """
    fine_tune = FineTuneRecipe(
        epochs=4,
        image_size_px=96,
        batch_size=48,
        document_batch_size=24,
        encoder_share=1.0,
        weight_decay=0.05,
        augmentation="drawings",
        average_decay=0.995,
    )
    return Recipe(
        name="many_classes",
        model=ModelRecipe(
            image_size_px=96,
            framing="drawing",
            fusion="image",
            plain_share=0.0,
            picture_as_photo=0.5,
            document_views=3,
            photos_per_class=32,
        ),
        train=TrainRecipe(
            epochs=0,
            views=1,
            dropout=0.0,
            class_weight=0.0,
            pair_weight=1.0,
            pair_photo_weight=0.5,
            pair_memory=8192,
            fine_tune=fine_tune,
        ),
    )


def smoke() -> Recipe:
    """Seconds of training: for tests of the loop, not for shoppers."""
    return Recipe(
        name="smoke",
        model=ModelRecipe(image_size_px=96, dim=32, plain_dim=32, concepts=8, max_tokens=32),
        train=TrainRecipe(
            epochs=8, least_steps=0, batch_size=32, views=1, checkpoint_every_steps=20, checkpoint_every_s=0.0
        ),
        gate=GateRecipe(floor=0.05, margin=-0.5, bootstrap_rounds=200),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    function.__name__: function for function in (concept, image_only, grocery, many_classes, smoke, zero_shot)
}


def by_name(name: str) -> Recipe:
    """The built-in recipe with this name, or the recipe in a TOML file (`my.toml`; see docs/recipes.md).

    Raises:
        RecipeError: There is no such recipe, or the file is wrong; the message names the line.
    """
    if name.endswith(".toml"):
        return from_file(Path(name))
    if name not in RECIPES:
        raise RecipeError(
            f"there is no recipe {name!r}: use {', '.join(sorted(RECIPES))}, or a file that ends in .toml"
        )
    return RECIPES[name]()


def keep_with(registry: Registry, version: ModelVersion, recipe: Recipe) -> None:
    """Attach a recipe to the version that was made with it, unless `of_version` returns this one already.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with suppress(RecipeError):
        if of_version(registry, version) == recipe:
            return
    with tempfile.TemporaryDirectory(prefix="immr-recipe-") as folder:
        file = Path(folder) / KEPT
        file.write_text(to_toml(recipe), encoding="utf-8")
        registry.attach(version, file)


def of_version(registry: Registry, version: ModelVersion) -> Recipe:
    """The recipe that a version was last made with.

    Raises:
        RecipeError: An earlier release made the version with a recipe file, and did not keep it or kept one that this
            release cannot read.
        RegistryError: MLflow does not answer.
    """
    with registry.attached(version, KEPT) as kept:
        if kept is not None:
            try:
                return from_file(kept)
            except RecipeError as error:
                raise RecipeError(
                    f"this release cannot read the recipe that was kept with {version.id} ({error}): "
                    "name one with --recipe"
                ) from error
    if version.recipe not in RECIPES:
        raise RecipeError(
            f"{version.id} was made with the recipe {version.recipe!r}, which is not built in and was not kept "
            "with it: name its file with --recipe"
        )
    return by_name(version.recipe)


def from_file(path: Path) -> Recipe:
    """A recipe from a TOML file: the built-in recipe named by the key `base`, with the file's values replaced.

    Raises:
        RecipeError: The file cannot be read, or has an unknown key or a value of the wrong type.
    """
    return _from_file(path, ())


def _from_file(path: Path, above: Sequence[Path]) -> Recipe:
    """`above` are the files that led to this one by their `base`."""
    try:
        whole = path.resolve()
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: TOML's, which names the line
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    if whole in above:
        raise RecipeError(f"the recipe {path} has itself as its base: name a built-in recipe as its base")
    base = _base(values.pop("base", "concept"), (*above, whole))
    try:
        merged = _merged(_plain(base), {"name": path.stem, **values})
        # strict, so that true is not read as 1, nor "10" as 10; as JSON, because a TOML list may be a tuple
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(merged, default=str), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        raise _wrong(path, text, [str(part) for part in fault["loc"]], fault["msg"]) from error
    except (RecipeError, RecursionError) as error:
        raise RecipeError(f"{path}: {error}: correct it") from error
    if not (0 < len(recipe.name.strip()) <= 200 and recipe.name.isprintable()):
        raise _wrong(path, text, ["name"], "a name has 1 to 200 characters, all in one line")
    if unknown := _first_unknown(merged, _plain(recipe)):
        raise _wrong(path, text, unknown, f"there is no such setting{_similar(unknown, _plain(recipe))}")
    return recipe


def _base(name: object, above: Sequence[Path]) -> Recipe:
    """The recipe that the last of these files changes; a relative path starts at that file's folder."""
    if not isinstance(name, str):
        raise RecipeError(f'{above[-1]}: base is {name!r}: write the name of a recipe, such as "concept"')
    return _from_file(above[-1].parent / name, above) if name.endswith(".toml") else by_name(name)


def to_toml(recipe: Recipe) -> str:
    """A recipe as TOML with every value; `from_file` reads it back."""
    import tomli_w

    return tomli_w.dumps(_without_none(_plain(recipe)))


def _plain(recipe: Recipe) -> dict[str, Any]:
    plain: dict[str, Any] = asdict(recipe)
    return plain


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        are_tables = isinstance(value, dict) and isinstance(inner, dict | None)
        merged[key] = _merged(inner or {}, value) if are_tables else value
    return merged


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def _first_unknown(given: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The path of the first key that the recipe does not have; empty if it has all of them."""
    for key, value in given.items():
        if key not in known:
            return [key]
        if isinstance(value, Mapping) and (deeper := _first_unknown(value, known[key] or {})):
            return [key, *deeper]
    return []


def _similar(unknown: Sequence[str], known: Mapping[str, Any]) -> str:
    """The setting that was probably meant, as the end of a sentence; empty if none is similar."""
    for key in unknown[:-1]:
        known = known[key] or {}
    close = get_close_matches(unknown[-1], known, n=1)
    return f", perhaps you mean {close[0]}" if close else ""


def _wrong(path: Path, text: str, keys: Sequence[str], fault: str) -> RecipeError:
    """`my.toml, line 12: train.epochs: Input should be a valid integer: correct it`."""
    return RecipeError(f"{path}{_line_of(text, keys)}: {'.'.join(keys)}: {fault}: correct it")


def _line_of(text: str, keys: Sequence[str]) -> str:
    """ ", line n" of a key in its table, or nothing if it is written in another way."""
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.fullmatch(r"\s*\[([^\[\]]+)\]\s*(#.*)?", line):
            table = [part.strip() for part in header[1].split(".")]
        elif (assigned := re.match(r"\s*([\w.-]+)\s*=", line)) and [*table, *assigned[1].split(".")] == list(
            keys
        ):
            return f", line {number}"
    return ""


def check_encoders(recipe: Recipe) -> None:
    """Check that the recipe's encoders exist and take pictures of its sizes. Imports torch.

    Raises:
        RecipeError: An encoder or a size does not fit; the message names the setting.
    """
    from immr.model.encoders import by_name as encoders

    fine_tune = recipe.train.fine_tune
    encoders.check_encoders(recipe.model, fine_tune.image_size_px if fine_tune else None)


def with_processes(recipe: Recipe, processes: int) -> Recipe:
    """The same recipe with another number of training processes.

    Raises:
        RecipeError: `processes` is below 1.
    """
    if processes < 1:
        raise RecipeError(f"training needs at least one process, not {processes}")
    return replace(recipe, train=replace(recipe.train, processes=processes))


def with_gate_margin(recipe: Recipe, margin: float) -> Recipe:
    """The same recipe with another margin of the gate."""
    return replace(recipe, gate=replace(recipe.gate, margin=margin))
