"""What the A/B says: read out → promote, keep, wait or roll back. Made to run every minute."""

from kfp import dsl

import components
from pipelines.cluster import at_home


@dsl.pipeline(
    name="immr-decide",
    description="Reads the running experiment out and decides: promote, keep, wait or roll back.",
)
def decide(apply: bool = True):
    """Decide about the challenger.

    Args:
        apply: Act on the decision; else it only goes to the promotion log.
    """
    watched = components.watch(apply=apply)
    at_home(watched)
