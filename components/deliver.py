"""Outbox → the collection of every version."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deliver(until: int, waiting_changes: dsl.Output[dsl.Metrics]):
    """Deliver all pending changes; fails if a live version still lacks one numbered up to `until`."""
    from immr.errors import IndexUnavailableError
    from immr.loop.items import delivery
    from immr.loop.pipeline_run import with_retries
    from immr.machine.wording import counted
    from immr.settings import Settings
    from immr.wiring import connect

    def body():
        progress = delivery.deliver(connect(Settings()))
        late = [
            f"{each.version_id} ({each.error})" for each in progress if each.live and each.delivered < until
        ]
        if late:
            raise IndexUnavailableError(
                f"changes wait for {', '.join(late)}: they are stored; run the delivery again"
            )
        return progress

    for each in with_retries("deliver", body):
        problem = f" ({each.error})" if each.error else ""
        print(f"{each.version_id} has {each.delivered} of {counted(each.latest, 'change')}{problem}")
        waiting_changes.log_metric(f"{each.version_id} waiting", each.waiting)
