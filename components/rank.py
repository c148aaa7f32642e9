"""Model version → the same with a learned ranker, if clicks show that it beats the hand weights."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def rank(run: str, model_version: str, training_set: str, data_uri: str, recipe: str, learn: bool) -> str:
    """Learn a ranker if asked to; returns the version with it, or the version as it was."""
    from pathlib import Path

    from immr import recipes
    from immr.data.training_set import TrainingSet
    from immr.loop.pipeline_run import PipelineRun
    from immr.loop.rank import Ranked, rank_if_possible
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body():
        version = parts.registry.get(model_version)
        if not learn:
            return Ranked(version, False, "", {})
        chosen = recipes.by_name(recipe)
        return rank_if_possible(parts, version, TrainingSet(Path(training_set)), chosen, data_uri)

    def finding(ranked):
        return ranked.sentence

    ranked = PipelineRun.of(parts.settings, run).step("rank", body, finding)
    version_id: str = ranked.version.id
    return version_id
