"""Bento and collection → a version that serves."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(run: str, model_version: str, bento: str, collection: str) -> str:
    """Deploy a version as challenger, or as champion if there is none; returns its role."""
    from immr import steps, wiring
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings

    settings = Settings()

    def body():
        return steps.deploy(settings, wiring.registry(settings).get(model_version), bento)

    def finding(made):
        return f"{made.version_id} serves as {made.role}"

    role: str = PipelineRun.of(settings, run).step("deploy", body, finding).role
    return role
