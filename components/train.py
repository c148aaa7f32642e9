"""Training set → model version."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    run: str,
    training_set: dsl.Input[dsl.Dataset],
    recipe: str,
    processes: int,
    gpus_per_process: int,
    model: dsl.Output[dsl.Model],
):
    """Train a recipe's towers and register them in MLflow; `model` describes the version."""
    import json
    from pathlib import Path

    from immr import recipes
    from immr.data.training_set import TrainingSet
    from immr.launch.kubeflow.job_shape import for_run
    from immr.loop.pipeline_run import PipelineRun
    from immr.loop.train import train
    from immr.registry import reports
    from immr.settings import Settings
    from immr.wiring import connect

    settings = Settings()
    launch_url = for_run(settings.launch_url, run, gpus_per_process)
    parts = connect(settings.model_copy(update={"launch_url": launch_url}))

    def body():
        chosen = recipes.with_processes(recipes.by_name(recipe), processes)
        return train(parts, TrainingSet(Path(training_set.metadata["folder"])), chosen, run)

    version = PipelineRun.of(parts.settings, run).step("train", body, finding=lambda made: made.id)
    model.metadata.update(reports.version_facts(parts.settings, version))
    Path(model.path).write_text(json.dumps(model.metadata, indent=1))
