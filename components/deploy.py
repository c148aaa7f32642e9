"""Bento and collection → a version that serves."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(run: str, model_version: str, bento: str, collection: str) -> str:
    """Deploy a version as challenger, or as champion if there is none; returns its role, or "waiting".

    A running experiment keeps its versions. The new one then waits, packaged and indexed, until it has ended.
    """
    from immr.errors import ExperimentRunningError
    from immr.loop.deploy import deploy
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> tuple[str, str]:
        try:
            made = deploy(parts, parts.registry.get(model_version), bento)
        except ExperimentRunningError as running:
            return "waiting", str(running)
        return made.role, f"{made.version_id} serves as {made.role}"

    role, sentence = PipelineRun.of(parts.settings, run).step("deploy", body, finding=lambda made: made[1])
    print(sentence)
    return role
