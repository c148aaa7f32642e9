"""Once round the loop: govern → train → evaluate → (gate) → package, index, features → deploy → start."""

from kfp import dsl

import components
from pipelines.cluster import at_home, repeatable


@dsl.pipeline(
    name="immr-refresh",
    description="From click log and catalogue to a version that serves as challenger, if the gate lets it.",
)
def refresh(
    data_uri: str = "/immr/data/shop",
    recipe: str = "concept",
    workers: int = 2,
    gpus_per_worker: int = 0,
    gate_margin: float = -0.05,
    deploy: bool = True,
    share: float = 0.5,
):
    """Train, judge and bring up a new version.

    Args:
        data_uri: Folder with items, queries and impressions as Parquet (docs/your-data.md).
        recipe: What is done, by name: `concept`, `image_only`, … (immr/recipes.py).
        workers: Training processes.
        gpus_per_worker: GPUs reserved for each of them on a cluster.
        gate_margin: The gate passes where the lower bound of (candidate − champion) is above this.
        deploy: Let a version that passes serve; else it is only packaged and indexed.
        share: Share of the users that a challenger gets, between 0 and 1.
    """
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    finished = components.finish(run=run, data_uri=data_uri, recipe=recipe)
    with dsl.ExitHandler(finished, name="refresh"):
        governed = components.govern(data_uri=data_uri, recipe=recipe)
        training_set = governed.outputs["Output"]
        trained = components.train(
            training_set=training_set,
            recipe=recipe,
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            run=run,
        )
        judged = components.evaluate(
            training_set=training_set, model_version=trained.output, recipe=recipe, gate_margin=gate_margin
        )
        materialized = components.materialize(data_uri=data_uri, training_set=training_set)
        with dsl.If(judged.outputs["Output"] == True, name="gate passed"):  # noqa: E712 - KFP's own condition
            packaged = components.package(model_version=trained.output, recipe=recipe)
            indexed = components.index(model_version=trained.output, training_set=training_set)
            with dsl.If(deploy == True, name="to be deployed"):  # noqa: E712
                deployed = components.deploy(
                    model_version=trained.output, bento=packaged.output, collection=indexed.output
                )
                started = components.start(role=deployed.output, share=share)
    steps = (governed, trained, judged, materialized, packaged, indexed, deployed, started)
    at_home(*steps, finished)
    repeatable(*steps)
