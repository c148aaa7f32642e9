"""Click log → item features in the online store."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialize(run: str, data_uri: str, training_set: str) -> int:
    """Write the item features of the last seven days to the online store; returns the number of items."""
    from pathlib import Path

    from immr import steps
    from immr.data.training_set import TrainingSet
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings

    settings = Settings()

    def body() -> int:
        return steps.materialize(settings, TrainingSet(Path(training_set)), Path(data_uri))

    return PipelineRun.of(settings, run).step("materialize", body)
