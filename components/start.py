"""Deployed versions → an experiment that sends the challenger its share of users."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def start(run: str, role: str, share: float) -> str:
    """Start an experiment with the version just deployed; an experiment that is already running continues.

    `role` is "waiting" if the running experiment kept the version from being deployed.
    """
    from immr.errors import ExperimentRunningError
    from immr.loop import experiment
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> str:
        if role == "waiting":
            return "no new experiment: the new version waits until the running one has ended"
        try:
            return f"{experiment.start(parts, weight=share).name} started with the new {role}"
        except ExperimentRunningError as running:
            return f"no new experiment for the {role}: {running}"

    sentence = PipelineRun.of(parts.settings, run).step("start", body, finding=str)
    print(sentence)
    return sentence
