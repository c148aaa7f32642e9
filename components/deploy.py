"""Bento and collection → a version that serves."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(run: str, model_version: str, bento: str, collection: str) -> str:
    """Deploy a version as challenger, or as champion if there is none; returns its role, or "waiting".

    While an experiment is running, the new version waits, packaged and indexed.
    """
    from immr.errors import ExperimentRunningError
    from immr.loop.deploy import deploy
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> tuple[str, str]:
        try:
            deployment = deploy(parts, parts.registry.get(model_version), bento)
        except ExperimentRunningError as running:
            return "waiting", str(running)
        return deployment.role, f"{deployment.version_id} serves as {deployment.role}"

    role, sentence = PipelineRun.of(parts.settings, run).step(
        "deploy", body, finding=lambda result: result[1]
    )
    print(sentence)
    return role
