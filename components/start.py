"""Catalogue without clicks → a search with a pretrained version as champion."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def start(
    run: str,
    items_uri: str,
    recipe: str,
    catalogue_report: dsl.Output[dsl.HTML],
    counts: dsl.Output[dsl.Metrics],
) -> NamedTuple("Outputs", [("model_version", str)]):
    """Check, register, package, index and deploy a catalogue; fails if changes wait for a live version."""
    import shutil

    from immr import recipes
    from immr.data.sources.shop import Shop
    from immr.errors import IndexUnavailableError
    from immr.loop.pipeline_run import PipelineRun
    from immr.loop.start import start
    from immr.machine.wording import counted
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())

    def body():
        started = start(parts, Shop.catalogue(items_uri), recipes.by_name(recipe))
        if started.waiting:
            raise IndexUnavailableError(
                f"{counted(started.waiting, 'change')} for {started.version_id} not delivered yet: run the step again"
            )
        return started

    def finding(started):
        return f"searchable with {started.version_id}: {counted(started.items, 'item')}"

    this = PipelineRun.of(parts.settings, run)
    started = this.step("start", body, finding)
    this.end("succeeded")
    shutil.copyfile(started.training_set / "report.html", catalogue_report.path)
    for name in ("items", "changed", "deleted", "rejected"):
        counts.log_metric(name, getattr(started, name))
    return (started.version_id,)
