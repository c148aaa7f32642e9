"""Click log → item features online."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def materialize(data_uri: str, training_set: str) -> int:
    """Bring the items' last seven days online; returns the number of items."""
    from pathlib import Path

    from immr import steps
    from immr.data.training_set import TrainingSet
    from immr.settings import Settings

    return steps.materialize(Settings(), TrainingSet(Path(training_set)), Path(data_uri))
