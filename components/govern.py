"""Click log and catalogue → training set."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def govern(
    run: str,
    data_uri: str,
    recipe: str,
    training_set: dsl.Output[dsl.Dataset],
    governance_report: dsl.Output[dsl.HTML],
    counts: dsl.Output[dsl.Metrics],
):
    """Clean, group and split a click log into a training set on the shared home; `training_set` describes it."""
    import json
    import shutil
    from pathlib import Path

    from immr import recipes
    from immr.loop.govern import govern
    from immr.loop.pipeline_run import PipelineRun
    from immr.machine.wording import counted
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body():
        return govern(parts, data_uri, recipes.by_name(recipe))

    def finding(made):
        use = (each.sentence for each in made.use())
        return "; ".join(
            [f"{counted(len(made.queries), 'photo')} in {counted(made.class_count, 'class')}", *use]
        )

    result = PipelineRun.of(parts.settings, run).step("govern", body, finding)
    shutil.copyfile(result.folder / "report.html", governance_report.path)
    training_set.metadata.update(result.facts())
    Path(training_set.path).write_text(json.dumps(training_set.metadata, indent=1))
    for name, number in result.sizes().items():
        counts.log_metric(name, number)
