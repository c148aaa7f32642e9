"""Model version → metrics, gallery, verdict, and the gate's yes or no."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    training_set: str,
    model_version: str,
    recipe: str,
    gate_margin: float,
    metrics: dsl.Output[dsl.Metrics],
    gallery: dsl.Output[dsl.HTML],
    verdict: dsl.Output[dsl.Markdown],
) -> bool:
    """Judge a version on held-out photos, against the champion; returns the gate's yes or no."""
    from pathlib import Path

    from immr import recipes, steps, wiring
    from immr.data.training_set import TrainingSet
    from immr.loop import reports
    from immr.settings import Settings

    settings = Settings()
    version = wiring.registry(settings).get(model_version)
    chosen = recipes.with_gate_margin(recipes.by_name(recipe), gate_margin)
    result = steps.evaluate(settings, version, TrainingSet(Path(training_set)), chosen, Path(gallery.path))
    for name, value in result.evaluation.means().items():
        metrics.log_metric(name, value)
    metrics.metadata["gate"] = result.verdict.sentence
    Path(verdict.path).write_text(reports.verdict_page(settings, version, result.verdict.sentence))
    return result.verdict.passed
