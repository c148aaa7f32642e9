"""Event log → readout and decision, applied."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def watch(apply: bool, readout: dsl.Output[dsl.Metrics]) -> NamedTuple("Outputs", [("action", str)]):
    """Decide about the running test, and promote or remove the challenger; returns the action."""
    from immr.loop.experiment.decide import decide
    from immr.loop.experiment.queue import advance, waiting
    from immr.settings import Settings
    from immr.wiring import connect

    with connect(Settings()) as parts:
        watched = decide(parts, apply, record_wait=False)
        begun = advance(parts) if apply else None
        queue = waiting(parts)
    for name, value in watched.decision.numbers.items():
        readout.log_metric(name, float(value))
    readout.metadata["reason"] = watched.decision.reason
    readout.metadata["waiting"] = "; ".join(f"{each.version.model_version}: {each.reason}" for each in queue)
    if begun is not None:
        print(f"{begun.name} has started")
    print(f"{watched.decision.action}: {watched.decision.reason}")
    return (watched.decision.action,)
