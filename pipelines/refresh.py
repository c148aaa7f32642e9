"""The refresh pipeline: govern → train → evaluate → (gate) → rank → package, index → deploy → start-test."""

from typing import Any

from kfp import dsl

import components
from pipelines.cluster import alerting, at_home, repeatable


def _release(run: str, model: Any, training_set: Any, recipe: Any, deploy: Any, share: Any) -> list[Any]:
    """The steps after the gate. Both branches have them, because KFP cannot pass on a step that may be skipped."""
    packaged = components.package(run=run, model=model, recipe=recipe)
    indexed = components.index(run=run, model=model, training_set=training_set)
    with dsl.If(deploy == True, name="to be deployed"):  # noqa: E712 - KFP's own condition
        deployed = components.deploy(
            run=run,
            model=model,
            bento=packaged.outputs["bento"],
            collection=indexed.outputs["collection"],
            share=share,
        )
        started = components.start_test(run=run, role=deployed.outputs["role"], share=share)
    # the second branch's tasks are called package-2, index-2, …
    return [
        task.set_display_name(task.component_spec.name) for task in (packaged, indexed, deployed, started)
    ]


@dsl.pipeline(
    name="immr-refresh",
    description="Trains a version on the click log and catalogue, and deploys it if it passes the gate.",
)
def refresh(
    data_uri: str = "/immr/data/shop",
    recipe: str = "concept",
    processes: int = 2,
    gpus_per_process: int = 0,
    gate_margin: float = -0.05,
    rank: bool = False,
    deploy: bool = True,
    share: float = 0.5,
):
    """Train and evaluate a new version, and deploy it if it passes the gate.

    Args:
        data_uri: Folder or URL of items, queries and impressions, or a mapping (docs/data-contract.md).
        recipe: Name of a built-in recipe (`concept`, `image_only`, …), or a TOML file that the steps can read.
        processes: Training processes.
        gpus_per_process: GPUs reserved for each training process on a cluster.
        gate_margin: The gate passes if the lower bound of (candidate − champion) is above this.
        rank: Also learn a ranker from the click log; it is used only if it beats the hand-tuned weights.
        deploy: Deploy a version that passes; otherwise it is only packaged and indexed.
        share: Share of users that a challenger gets, between 0 and 1.
    """
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    finished = components.finish(run=run, data_uri=data_uri, recipe=recipe, deploy=deploy)
    with dsl.ExitHandler(finished, name="refresh"):
        governed = components.govern(run=run, data_uri=data_uri, recipe=recipe)
        training_set = governed.outputs["training_set"]
        trained = components.train(
            run=run,
            training_set=training_set,
            recipe=recipe,
            processes=processes,
            gpus_per_process=gpus_per_process,
        )
        model = trained.outputs["model"]
        judged = components.evaluate(
            run=run, training_set=training_set, model=model, recipe=recipe, gate_margin=gate_margin
        )
        materialized = components.materialize(
            run=run, data_uri=data_uri, training_set=training_set, recipe=recipe
        )
        passed = judged.outputs["passed"] == True  # noqa: E712 - KFP's own condition
        # the gate's condition is the inner one, because kfp.local only finds named outputs of an enclosing group
        with dsl.If(rank == False, name="without a ranker"), dsl.If(passed, name="gate passed"):  # noqa: E712
            without_ranker = _release(run, model, training_set, recipe, deploy, share)
        with dsl.If(rank == True, name="with a ranker"), dsl.If(passed, name="gate passed"):  # noqa: E712
            ranked = components.rank(
                run=run, model=model, training_set=training_set, data_uri=data_uri, recipe=recipe
            )
            with_ranker = _release(run, ranked.outputs["ranked_model"], training_set, recipe, deploy, share)
    steps = (governed, trained, judged, materialized, *without_ranker, ranked, *with_ranker)
    at_home(*steps, finished)
    alerting(finished)
    repeatable(*steps)
