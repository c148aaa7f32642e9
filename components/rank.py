"""Model version → the same with a learned ranker, if it beats the hand-tuned weights on clicks."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def rank(
    run: str,
    model: dsl.Input[dsl.Model],
    training_set: dsl.Input[dsl.Dataset],
    data_uri: str,
    recipe: str,
    ranked_model: dsl.Output[dsl.Model],
):
    """Learn a ranker; `ranked_model` describes the version with it, or the original version if it is no better."""
    import json
    from pathlib import Path

    from immr import recipes
    from immr.data.training_set import TrainingSet
    from immr.loop.pipeline_run import PipelineRun
    from immr.loop.rank import rank, rank_if_possible
    from immr.registry import reports
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body():
        version = parts.registry.get(model.metadata["version"])
        chosen = recipes.by_name(recipe)
        made = TrainingSet(Path(training_set.metadata["folder"]))
        return rank_if_possible(version, lambda: rank(parts, version, made, chosen, data_uri))

    def finding(ranked):
        return ranked.sentence

    ranked = PipelineRun.of(parts.settings, run).step("rank", body, finding)
    ranked_model.metadata.update(reports.version_facts(parts.settings, ranked.version))
    Path(ranked_model.path).write_text(json.dumps(ranked_model.metadata, indent=1))
