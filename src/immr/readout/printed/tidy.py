"""A readout as a table with one row per comparison, for spreadsheets, notebooks and warehouses."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from immr.experiment.definition import CHALLENGER, CHAMPION
from immr.readout.comparison import CTR
from immr.storage.atomic import write_atomically

if TYPE_CHECKING:
    from immr.readout.readout import Readout
    from immr.readout.segments import Segment

COLUMNS = pa.schema(
    [
        ("experiment", pa.string()),
        ("dimension", pa.string()),  # empty for all users
        ("segment", pa.string()),
        ("metric", pa.string()),
        ("variant", pa.string()),  # the challenger that is compared with the champion
        ("users_champion", pa.int64()),
        ("users_challenger", pa.int64()),
        ("champion", pa.float64()),
        ("challenger", pa.float64()),
        ("difference", pa.float64()),  # challenger − champion
        ("interval_low", pa.float64()),  # for one look; none for segments
        ("interval_high", pa.float64()),
        ("always_valid_low", pa.float64()),  # for every look; for segments, for all of them together
        ("always_valid_high", pa.float64()),
        ("relative_lift", pa.float64()),
        ("p_value", pa.float64()),  # for one look
        ("adjusted_p_value", pa.float64()),  # corrected for the number of segments
        ("differs", pa.bool_()),  # whether the always-valid interval excludes zero
    ]
)
"""Null means: not known, or withheld."""


def rows(readout: Readout, segments: Sequence[Segment] = ()) -> pa.Table:
    """All comparisons of a readout, then its segments, with the columns of `COLUMNS`."""
    found = [*_of_all_users(readout), *(_of_segment(readout.experiment, each) for each in segments)]
    return pa.Table.from_pylist(found, schema=COLUMNS)


def to_csv(table: pa.Table) -> str:
    """The table as CSV with a header; numbers in full, null as an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(row.values() for row in table.to_pylist())
    return out.getvalue()


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write the table atomically."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())


def _of_all_users(readout: Readout) -> Iterator[dict[str, object]]:
    users = {side.name: side.users for side in readout.variants}
    per_query = (arm.ctr_per_query for arm in readout.arms)
    for each in (*readout.comparisons, *(each for each in per_query if each is not None)):
        always = each.always_valid
        yield {
            "experiment": readout.experiment,
            "dimension": "",
            "segment": "",
            "metric": each.metric,
            "variant": each.variant,
            "users_champion": users.get(CHAMPION),
            "users_challenger": users.get(each.variant),
            "champion": each.champion,
            "challenger": each.challenger,
            "difference": each.difference,
            "interval_low": each.interval.low,
            "interval_high": each.interval.high,
            "always_valid_low": always.low,
            "always_valid_high": always.high,
            "relative_lift": each.relative_lift,
            "p_value": each.p_value,
            "differs": not always.low <= 0 <= always.high,
        }


def _of_segment(experiment: str, segment: Segment) -> dict[str, object]:
    always = segment.always_valid
    lift = (
        segment.difference / segment.champion if segment.difference is not None and segment.champion else None
    )
    return {
        "experiment": experiment,
        "dimension": segment.dimension,
        "segment": segment.value,
        "metric": CTR.name,
        "variant": segment.variant,
        "users_champion": segment.users[CHAMPION],
        "users_challenger": segment.users[CHALLENGER],
        "champion": segment.champion,
        "challenger": segment.challenger,
        "difference": segment.difference,
        "always_valid_low": always.low if always else None,
        "always_valid_high": always.high if always else None,
        "relative_lift": lift,
        "p_value": segment.p_value,
        "adjusted_p_value": segment.adjusted_p_value,
        "differs": segment.differs,
    }
