"""Exit step: summarizes the run, however it ended, and deletes training that it left running."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(
    run: str,
    data_uri: str,
    recipe: str,
    deploy: bool,
    status: dsl.PipelineTaskFinalStatus,
    summary: dsl.Output[dsl.Markdown],
):
    """Summarize the run, and delete the training job that a failed or stopped run has left running."""
    from pathlib import Path

    from immr.loop.pipeline_run import PipelineRun
    from immr.loop.train import stop_training
    from immr.settings import Settings
    from immr.wiring import connect

    parts = connect(Settings())
    this = PipelineRun.of(parts.settings, run)
    outcome = this.outcome(status.state, deploys=deploy)
    this.end(outcome)
    stopped = [] if outcome == "succeeded" else stop_training(parts, run)
    about = f"Recipe `{recipe}` on `{data_uri}`."
    parts.alerts.resume()
    if outcome == "failed":
        parts.alerts.send(this.failure(about))
    page = this.page(parts.settings, about, outcome, stopped)
    Path(summary.path).write_text(page)
    this.prune()
    parts.close()
    print(page)
