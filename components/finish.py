"""The end of a run, however it went → a page that says so, and nothing left running."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    run: str,
    data_uri: str,
    recipe: str,
    status: dsl.PipelineTaskFinalStatus,
    summary: dsl.Output[dsl.Markdown],
):
    """Say what happened, and end training that a run which failed or was cancelled has left behind."""
    from pathlib import Path

    from immr import steps
    from immr.loop import reports
    from immr.settings import Settings

    settings = Settings()
    failed = status.state != "SUCCEEDED"
    stopped = steps.stop_training(settings, run) if failed else []
    page = reports.run_page(settings, data_uri, recipe, status.state, status.error_message or "", stopped)
    Path(summary.path).write_text(page)
    print(page)
