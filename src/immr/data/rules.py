"""The rules that a row of a table keeps or breaks on its own, and which one it breaks first."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from immr.data.contract import IMPRESSIONS, TableContract

if TYPE_CHECKING:
    import pandas as pd

_LAST_POSITION = 2**31 - 1


def rules_of(contract: TableContract) -> Any:
    """A table's rules, as a pandera schema over its columns."""
    import pandera.pandas as pandera

    special = {
        "price": [
            pandera.Check(np.isfinite, error="price is not finite"),
            pandera.Check.ge(0, error="price is negative"),
        ],
        "stock": [
            pandera.Check(np.isfinite, error="stock is not finite"),
            pandera.Check.ge(0, error="stock is negative"),
        ],
        "position": [
            pandera.Check.ge(1, error="position is below 1"),
            pandera.Check.le(_LAST_POSITION, error="position is beyond any list"),
            pandera.Check(lambda position: position % 1 == 0, error="position is no whole number"),
        ],
    }
    columns = {}
    for column in contract.columns:
        checks = special.get(column.name, [])
        if column.type == pa.string() and column.name != "description":
            checks = [
                pandera.Check(lambda text: text.str.strip() != "", error=f"{column.name} is empty"),
                *checks,
            ]
        columns[column.name] = pandera.Column(None, checks, nullable=column.name in contract.may_lack)
    across = (
        [pandera.Check(_clicked_before_ordered, error="ordered but not clicked")]
        if contract is IMPRESSIONS
        else []
    )
    return pandera.DataFrameSchema(columns, checks=across)


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
