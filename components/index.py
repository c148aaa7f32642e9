"""Model version and catalogue → the version's Qdrant collection."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def index(
    run: str,
    model: dsl.Input[dsl.Model],
    training_set: dsl.Input[dsl.Dataset],
    counts: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("collection", str)]):
    """Embed the catalogue into the version's own collection and verify it; returns the collection's name."""
    from pathlib import Path

    from immr.data.training_set import TrainingSet
    from immr.loop.index import index
    from immr.loop.pipeline_run import PipelineRun
    from immr.machine.wording import counted
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body():
        version = parts.registry.get(model.metadata["version"])
        return index(parts, version, TrainingSet(Path(training_set.metadata["folder"])).items)

    def finding(made):
        return f"searchable: {counted(made.points, 'item')}, recall@10 against exact search {made.recall_at_10:.3f}"

    report = PipelineRun.of(parts.settings, run).step("index", body, finding)
    counts.log_metric("items", report.points)
    counts.log_metric("recall_at_10", report.recall_at_10)
    return (report.collection,)
