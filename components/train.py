"""Training set → model version."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(training_set: dsl.Input[dsl.Dataset], recipe: str, processes: int) -> str:
    """Train two towers and register them; returns the model version's id."""
    from pathlib import Path

    from immr import recipes, steps
    from immr.data.training_set import TrainingSet
    from immr.settings import Settings

    chosen = recipes.with_processes(recipes.by_name(recipe), processes)
    return steps.train(Settings(), TrainingSet(Path(training_set.path)), chosen).id
