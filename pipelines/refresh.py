"""Once round the loop: govern → train → evaluate → (gate) → package, index, features → deploy."""

from kfp import dsl

import components
from pipelines.cluster import at_home


@dsl.pipeline(
    name="immr-refresh",
    description="From click log and catalogue to a version that serves as challenger, if the gate lets it.",
)
def refresh(
    data_uri: str = "/immr/data/shop", recipe: str = "concept", processes: int = 2, gate_margin: float = -0.05
):
    """Train, judge and bring up a new version.

    Args:
        data_uri: Folder with items, queries and impressions as Parquet (docs/your-data.md).
        recipe: What is done, by name: `concept`, `image_only`, … (immr/recipes.py).
        processes: Training processes.
        gate_margin: The gate passes where the lower bound of (candidate − champion) is above this.
    """
    governed = components.govern(data_uri=data_uri, recipe=recipe)
    training_set = governed.outputs["training_set"]
    trained = components.train(training_set=training_set, recipe=recipe, processes=processes)
    judged = components.evaluate(
        training_set=training_set, model_version=trained.output, recipe=recipe, gate_margin=gate_margin
    )
    materialized = components.materialize(data_uri=data_uri, training_set=training_set)
    with dsl.If(judged.outputs["Output"] == True, name="gate passed"):  # noqa: E712 - KFP's own condition
        packaged = components.package(model_version=trained.output, recipe=recipe)
        indexed = components.index(model_version=trained.output, training_set=training_set)
        deployed = components.deploy(
            model_version=trained.output, bento=packaged.output, collection=indexed.output
        )
    at_home(governed, trained, judged, materialized, packaged, indexed, deployed)
    # What these do depends on who is champion and on what shoppers did, not on their inputs alone.
    for task in (judged, materialized, deployed):
        task.set_caching_options(enable_caching=False)
