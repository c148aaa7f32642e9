"""Model version → metrics, gallery, verdict, and whether it passes the gate."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    run: str,
    training_set: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    recipe: str,
    gate_margin: float,
    metrics: dsl.Output[dsl.Metrics],
    gallery: dsl.Output[dsl.HTML],
    verdict: dsl.Output[dsl.Markdown],
) -> NamedTuple("Outputs", [("passed", bool)]):
    """Compare a version with the champion on held-out photos; returns whether it passes the gate."""
    from pathlib import Path

    from immr import recipes
    from immr.data.training_set import TrainingSet
    from immr.loop.evaluate import evaluate
    from immr.loop.pipeline_run import PipelineRun
    from immr.registry import reports
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())
    chosen = recipes.with_gate_margin(recipes.by_name(recipe), gate_margin)

    def body():
        version = parts.registry.get(model.metadata["version"])
        held_out = TrainingSet(Path(training_set.metadata["folder"]))
        return version, evaluate(parts, version, held_out, chosen, Path(gallery.path))

    def finding(made):
        return made[1].verdict.sentence

    def refused(made):
        return not made[1].verdict.passed

    version, result = PipelineRun.of(parts.settings, run).step("evaluate", body, finding, refused)
    for name, value in result.evaluation.means().items():
        metrics.log_metric(name, value)
    metrics.metadata["gate"] = result.verdict.sentence
    Path(verdict.path).write_text(reports.verdict_page(parts.settings, version, result.verdict.sentence))
    return (result.verdict.passed,)
