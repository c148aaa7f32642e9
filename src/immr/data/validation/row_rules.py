"""The rules for a single row of a table, and the first of them that each row breaks."""

from __future__ import annotations

import warnings
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from immr.data.contract import IMPRESSIONS, TIMESTAMP, TableContract
from immr.types import MISSING_VALUES

if TYPE_CHECKING:
    import pandas as pd

_LAST_POSITION = 2**31 - 1
_CLOCK_TOLERANCE = timedelta(days=1)  # local times without a zone are up to 14 hours ahead
_FIRST_YEAR = 2000
_ROUNDED = (
    r"(?:\d([.,]\d+[eE]\+?|[eE]\+)\d+|\d{16,}\.0)$"  # 4.00638E+12: different products may have become one
)
_BLANK = "^[\\s\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u3000\ufeff]*$"  # nothing to see
_CONTROL = r"[\x00-\x1f\x7f]"
_IDS = ("item_id", "query_id", "user_id")
MAX_ID_CHARS = 1000
"""As in the search API."""


def rules_of(contract: TableContract, now: datetime) -> Any:
    """A table's rules, as a pandera schema over its columns.

    Args:
        contract: of the table.
        now: with a time zone; rows from later than the next day are rejected.
    """
    import pandas as pd
    import pandera.pandas as pandera

    latest = pd.Timestamp(now + _CLOCK_TOLERANCE)
    earliest = pd.Timestamp(f"{_FIRST_YEAR}-01-01", tz="UTC")
    special = {
        "price": [
            pandera.Check(np.isfinite, error="price is not finite"),
            pandera.Check.ge(0, error="price is negative"),
        ],
        "stock": [pandera.Check(np.isfinite, error="stock is not finite")],
        "position": [
            pandera.Check.ge(1, error="position is below 1: does it count from 0?"),
            pandera.Check.le(_LAST_POSITION, error="position is beyond any list"),
            pandera.Check(lambda position: position % 1 == 0, error="position is not a whole number"),
        ],
    }
    columns = {}
    for column in contract.columns:
        name, checks = column.name, list[Any]()
        if column.type == pa.string() and name not in ("description", "attributes", "images"):
            checks.append(pandera.Check(lambda text: ~text.str.match(_BLANK), error=f"{name} is empty"))
        checks += special.get(name, [])
        if column.type == TIMESTAMP:
            checks.append(pandera.Check.le(latest, error=f"{name} is in the future"))
        if name == "ts":
            reason = f"ts is before {_FIRST_YEAR}: is its unit right?"
            checks.append(pandera.Check.ge(earliest, error=reason))
        if contract.key == (name,):
            checks += _id_checks(name)
        if name in (*_IDS, "title"):
            reason = f"{name} stands for a missing value, as null and nan do"
            checks.append(pandera.Check(_is_a_value, error=reason))
        columns[name] = pandera.Column(None, checks, nullable=name in contract.may_lack)
    across = (
        [pandera.Check(_clicked_before_ordered, error="ordered but not clicked")]
        if contract is IMPRESSIONS
        else []
    )
    return pandera.DataFrameSchema(columns, checks=across)


def _id_checks(name: str) -> list[Any]:
    """Ids that may stand for several things, or that URLs and event logs cannot hold."""
    import pandera.pandas as pandera

    rounded = f"{name} is a rounded number, as spreadsheets write long ones: export it as text"
    return [
        pandera.Check(lambda ids: ~ids.str.match(_ROUNDED), error=rounded),
        pandera.Check(
            lambda ids: ids.str.len() <= MAX_ID_CHARS,
            error=f"{name} is longer than {MAX_ID_CHARS} characters",
        ),
        pandera.Check(
            lambda ids: ~ids.str.contains(_CONTROL), error=f"{name} has a line break or control character"
        ),
        pandera.Check(lambda ids: ~ids.isin([".", ".."]), error=f"{name} is . or .., which no URL can name"),
    ]


def _is_a_value(texts: pd.Series[str]) -> pd.Series[bool]:
    return ~texts.str.strip().isin(MISSING_VALUES)


def _clicked_before_ordered(frame: pd.DataFrame) -> pd.Series[bool]:
    ordered, clicked = frame["ordered"].eq(True), frame["clicked"].eq(True)
    return clicked | ~ordered


def broken(frame: pd.DataFrame, rules: Any) -> pd.Series[str]:
    """The first rule that each row breaks, in the order of the columns; empty where it breaks none."""
    import pandas as pd
    from pandera.errors import SchemaErrors

    reasons = pd.Series("", index=frame.index, dtype=object)
    try:
        with warnings.catch_warnings():
            # pandera joins its failure cases in a way that pandas wants to change
            warnings.simplefilter("ignore", FutureWarning)
            rules.validate(frame, lazy=True)
    except SchemaErrors as errors:
        failures = errors.failure_cases
        texts = failures["check"].where(
            failures["check"] != "not_nullable", failures["column"] + " is missing"
        )
        order = {name: rank for rank, name in enumerate(frame.columns)}
        ranked = pd.DataFrame(
            {"row": failures["index"].astype(int), "rank": failures["column"].map(order), "text": texts}
        )
        ranked.loc[failures["schema_context"] != "Column", "rank"] = len(order)
        first = ranked.sort_values(["row", "rank", "text"]).drop_duplicates("row")
        reasons.loc[first["row"]] = first["text"].to_numpy()
    return reasons
