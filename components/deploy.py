"""Bento and collection → a version that serves."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(run: str, model_version: str, bento: str, collection: str, share: float) -> str:
    """Deploy a version as challenger, or as champion if there is none; returns its role, or "waiting".

    While a test is running, the new version waits in the queue, and starts with this share when it has ended.
    """
    from immr.loop.experiment.queue import Waiting, deploy_or_wait
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> tuple[str, str]:
        deployed = deploy_or_wait(parts, parts.registry.get(model_version), bento, share)
        if isinstance(deployed, Waiting):
            return "waiting", f"{model_version} waits in the queue: {deployed.reason}"
        return deployed.role, f"{model_version} is deployed as {deployed.role}"

    role, sentence = PipelineRun.of(parts.settings, run).step(
        "deploy", body, finding=lambda result: result[1]
    )
    print(sentence)
    return role
