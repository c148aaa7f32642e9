"""The start pipeline: a catalogue without clicks becomes a search, with a pretrained version as champion."""

from kfp import dsl

import components
from pipelines.cluster import at_home, repeatable


@dsl.pipeline(
    name="immr-start",
    description="Indexes and deploys a catalogue with a pretrained version; run again, it delivers what has changed.",
)
def start(items_uri: str = "/immr/data/shop/items.parquet", recipe: str = "zero_shot"):
    """Turn a catalogue into a search, without photos, clicks or training.

    Args:
        items_uri: File, folder, glob or URL of the items, or a mapping that names it (docs/your-data.md).
        recipe: Name of a recipe without training, or a TOML file that the step can read.
    """
    started = components.start(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, items_uri=items_uri, recipe=recipe)
    at_home(started)
    repeatable(started)
