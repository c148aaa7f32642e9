"""Deployed versions → an experiment that sends the challenger its share of users."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def start(run: str, role: str, share: float) -> str:
    """Start an experiment with the version just deployed; one that is running already continues."""
    from immr.errors import ExperimentRunningError
    from immr.loop import experiment
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings

    settings = Settings()

    def body() -> str:
        try:
            return f"{experiment.start(settings, weight=share).name} started with the new {role}"
        except ExperimentRunningError as running:
            return f"no new experiment for the {role}: {running}"

    sentence = PipelineRun.of(settings, run).step("start", body, finding=str)
    print(sentence)
    return sentence
