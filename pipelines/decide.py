"""The decide pipeline: read out the experiment, then promote, keep, wait or roll back. Runs every minute."""

from kfp import dsl

import components
from pipelines.cluster import alerting, at_home


@dsl.pipeline(
    name="immr-decide",
    description="Reads out the running test and decides: promote, keep, wait or roll back.",
)
def decide(apply: bool = True):
    """Decide about the challenger.

    Args:
        apply: Apply the decision; else it is only written to the promotion log.
    """
    watched = components.watch(apply=apply)
    at_home(watched)
    alerting(watched)
