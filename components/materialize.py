"""Click log → item features in the online store."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialize(
    run: str, data_uri: str, training_set: dsl.Input[dsl.Dataset], recipe: str = "concept"
) -> NamedTuple("Outputs", [("items", int)]):
    """Write item features, and with `ranker.personal` in the recipe those of users; returns the number of items."""
    from pathlib import Path

    from immr import recipes
    from immr.data.training_set import TrainingSet
    from immr.loop.materialize import Materialized, materialize
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> Materialized:
        made = TrainingSet(Path(training_set.metadata["folder"]))
        return materialize(parts, made, data_uri, recipes.by_name(recipe).ranker.personal)

    def finding(made: Materialized) -> str:
        return made.sentence.replace("\n", "; ")

    return (PipelineRun.of(parts.settings, run).step("materialize", body, finding).items,)
