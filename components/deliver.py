"""Outbox → the collection of every version."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deliver(until: int, metrics: dsl.Output[dsl.Metrics]):
    """Deliver all pending changes; fails if a live version still lacks one numbered up to `until`."""
    from immr.errors import IndexUnavailableError
    from immr.loop import catalogue
    from immr.loop.pipeline_run import with_retries
    from immr.settings import Settings
    from immr.wiring import connect

    def body():
        progress = catalogue.deliver(connect(Settings()))
        late = [f"{one.version_id} ({one.error})" for one in progress if one.live and one.delivered < until]
        if late:
            raise IndexUnavailableError(
                f"changes wait for {', '.join(late)}: they are stored, run the delivery again"
            )
        return progress

    for one in with_retries("deliver", body):
        print(f"{one.version_id}: {one.delivered} of {one.latest} {one.error}")
        metrics.log_metric(f"{one.version_id} waiting", one.waiting)
