"""Model version and catalogue → the version's Qdrant collection."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def index(run: str, model_version: str, training_set: str) -> str:
    """Embed the catalogue into the version's own collection and verify it; returns the collection's name."""
    from pathlib import Path

    from immr.data.training_set import TrainingSet
    from immr.loop.index import index
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> str:
        version = parts.registry.get(model_version)
        return index(parts, version, TrainingSet(Path(training_set)).items).collection

    return PipelineRun.of(parts.settings, run).step("index", body)
