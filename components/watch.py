"""Event log → readout and decision, applied."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def watch(apply: bool, metrics: dsl.Output[dsl.Metrics]) -> str:
    """Decide about the running experiment, and promote or remove the challenger; returns the action."""
    from immr.loop import experiment
    from immr.settings import Settings
    from immr.wiring import connect

    with connect(Settings()) as parts:
        watched = experiment.decide(parts, apply, record_wait=False)
    for name, value in watched.decision.numbers.items():
        metrics.log_metric(name, float(value))
    metrics.metadata["reason"] = watched.decision.reason
    print(f"{watched.decision.action}: {watched.decision.reason}")
    return watched.decision.action
