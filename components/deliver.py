"""The outbox → every version's collection."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deliver(until: int, metrics: dsl.Output[dsl.Metrics]):
    """Bring all changes that wait to every collection; fails while a live version lacks one up to `until`."""
    from immr.errors import IndexUnavailableError
    from immr.loop import catalogue
    from immr.settings import Settings

    progress = catalogue.deliver(Settings())
    for each in progress:
        print(f"{each.version_id}: {each.delivered} of {each.latest} {each.error}")
        metrics.log_metric(f"{each.version_id} waiting", each.waiting)
    late = [f"{each.version_id} ({each.error})" for each in progress if each.live and each.delivered < until]
    if late:
        raise IndexUnavailableError(f"changes wait for {', '.join(late)}: they are safe, deliver again")
