"""Deployed versions → an experiment that sends the challenger its share of users."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def start_test(run: str, role: str, share: float) -> NamedTuple("Outputs", [("outcome", str)]):
    """Start a test of the version just deployed; a test that is already running continues.

    `role` is "waiting" if the running test kept the version from being deployed. A version that does not answer
    yet waits in the queue, and its test starts once it does.
    """
    from immr.errors import ExperimentRunningError
    from immr.loop.experiment.queue import Waiting, start_or_wait
    from immr.loop.pipeline_run import PipelineRun
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body() -> str:
        if role == "waiting":
            return "no new test: the version waits in the queue until the running test has ended"
        try:
            begun = start_or_wait(parts, share)
        except ExperimentRunningError as running:
            return f"no new test for the {role}: {running}"
        if isinstance(begun, Waiting):
            return f"{begun.version.model_version} waits in the queue: {begun.reason}"
        if not begun.challengers:
            champion = begun.champion.model_version
            return f"no test was started: {champion} became the champion, because there was none"
        return f"{begun.name} started with the new {role}"

    sentence = PipelineRun.of(parts.settings, run).step("start-test", body, finding=str)
    print(sentence)
    return (sentence,)
