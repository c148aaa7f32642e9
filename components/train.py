"""Training set → model version."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(training_set: str, recipe: str, workers: int, gpus_per_worker: int, run: str) -> str:
    """Train two towers and register them; returns the model version's id."""
    from pathlib import Path

    from immr import recipes, steps
    from immr.data.training_set import TrainingSet
    from immr.launch.job_shape import for_run
    from immr.settings import Settings

    chosen = recipes.with_processes(recipes.by_name(recipe), workers)
    settings = Settings()
    settings = settings.model_copy(update={"launch_url": for_run(settings.launch_url, run, gpus_per_worker)})
    return steps.train(settings, TrainingSet(Path(training_set)), chosen).id
