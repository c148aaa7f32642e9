"""Bento and collection → a version that serves."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(run: str, model: dsl.Input[dsl.Model], bento: str, collection: str, share: float) -> NamedTuple(
    "Outputs", [("role", str)]
):
    """Deploy a version as challenger, or as champion if there is none; returns its role, or "waiting".

    While a test is running, the new version waits in the queue, and starts with this share when it has ended.
    """
    from immr.loop.experiment.queue import Waiting, deploy_or_wait
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> tuple[str, str]:
        version = parts.registry.get(model.metadata["version"])
        deployed = deploy_or_wait(parts, version, bento, share)
        if isinstance(deployed, Waiting):
            return "waiting", f"{version.id} waits in the queue: {deployed.reason}"
        role = deployed.deployment.role
        return role, "; ".join([f"{version.id} is deployed as {role}", *deployed.losses])

    role, sentence = PipelineRun.of(parts.settings, run).step(
        "deploy", body, finding=lambda result: result[1]
    )
    print(sentence)
    return (role,)
