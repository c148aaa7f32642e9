"""Files with catalogue changes → the outbox."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def record_changes(changed_uri: str, deleted_uri: str, counts: dsl.Output[dsl.Metrics]) -> NamedTuple(
    "Outputs", [("sequence", int)]
):
    """Append changed and deleted items to the outbox; returns the number of the last change."""
    from pathlib import Path

    from immr.loop import catalogue
    from immr.machine.wording import counted
    from immr.settings import Settings
    from immr.wiring import connect

    files = [Path(uri) if uri else None for uri in (changed_uri, deleted_uri)]
    written = catalogue.record_changes(connect(Settings()), *files)
    counts.log_metric("changed", written.changed)
    counts.log_metric("deleted", written.deleted)
    print(f"{counted(written.changed, 'item')} changed, {written.deleted:,} deleted")
    if written.unknown:
        print(
            f"{counted(len(written.unknown), 'delete')} of items that no version has, such as {written.unknown[0]}"
        )
    for reason, rows in written.rejected.items():
        print(
            f"rejected: {reason} ({counted(rows, 'row')}), such as {', '.join(written.examples.get(reason, ()))}"
        )
        counts.log_metric(f"rejected: {reason}", rows)
    return (written.sequence,)
