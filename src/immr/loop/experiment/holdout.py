"""Holdout: compare the users who always get the champion with all others, over all tests since it began."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from immr.errors import ExperimentError
from immr.experiment.definition import (
    CHALLENGER,
    CHAMPION,
    DIRECT,
    HOLDOUT,
    PREVIEW,
    Experiment,
    Holdout,
    Variant,
)
from immr.experiment.file import load

if TYPE_CHECKING:
    import pyarrow as pa

    from immr.readout.readout import Readout
    from immr.wiring import Parts

_ALL_VERSIONS = "all versions"


@dataclass(frozen=True)
class HoldoutReadout:
    """The holdout, and its readout: "champion" are its users, and "challenger" are all others."""

    holdout: Holdout
    readout: Readout

    def to_json(self) -> dict[str, Any]:
        """Plain values, except times."""
        return {"holdout": asdict(self.holdout), "readout": self.readout.to_json()}


def read_holdout(parts: Parts) -> HoldoutReadout:
    """Read out the long-term effect of tests and new versions on users.

    Users of the holdout have never seen a challenger since it began. All others have been in tests, with a
    challenger or with the champion.

    Raises:
        ExperimentError: There is no experiment, or it has no holdout.
        EventLogError: The event log does not answer.
    """
    from immr.events.sink import on_disk
    from immr.readout.readout import readout_of_sums
    from immr.readout.sums import sum_up_queries

    holdout = load(parts.settings.experiment_file).holdout
    if holdout is None:
        raise ExperimentError("there is no holdout: start a test with `immr experiment start --holdout 5%`")
    nowhere = "http://127.0.0.1:1"
    groups = Experiment(
        HOLDOUT,
        holdout.salt,
        (
            Variant(CHAMPION, nowhere, _ALL_VERSIONS, holdout.share),
            Variant(CHALLENGER, nowhere, _ALL_VERSIONS, 1 - holdout.share),
        ),
        started=holdout.since,
    )
    with on_disk(parts.events, holdout.since, "queries", "searches", change=_by_group) as files:
        sums = sum_up_queries(files["queries"], groups, files["searches"], ranks=lambda *_: ())
    return HoldoutReadout(holdout, readout_of_sums(sums, groups))


def _by_group(events: pa.RecordBatch) -> pa.RecordBatch:
    """The events with "champion" for users of the holdout and "challenger" for all others, whatever the version."""
    import pyarrow as pa
    import pyarrow.compute as pc

    assigned = pc.invert(pc.is_in(events["variant"], value_set=pa.array([DIRECT, PREVIEW])))
    events = events.filter(assigned)
    held_out = pc.equal(events["variant"], HOLDOUT)
    columns = {
        "variant": pc.if_else(held_out, CHAMPION, CHALLENGER),
        "model_version": pa.array([_ALL_VERSIONS] * events.num_rows, pa.string()),
    }
    for name, values in columns.items():
        events = events.set_column(events.schema.get_field_index(name), name, values)
    return events
