"""The column `images` of items: pictures beside the main one, by which an item can be found as well.

A shop's table has a list, or text in which `|` separates them. In IMMR's tables it is a JSON array, null without any.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from immr.data.list_columns import lists
from immr.data.pictures import picture_files
from immr.types import MISSING_VALUES

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "images"
MAX_PICTURES = 20
_TOO_MANY = f"{COLUMN} has more than {MAX_PICTURES} pictures"
_NO_LIST = f"{COLUMN} is not a list of texts"


def pack(
    values: pa.Array, beside: str, place: str, main: Sequence[str | None] = ()
) -> tuple[pd.Series[str], dict[str, npt.NDArray[np.bool_]]]:
    """The column of a chunk, with relative paths made absolute.

    Args:
        values: as read from the file.
        beside: the folder or URL that relative paths start from.
        place: where the rows are, for messages.
        main: each row's main picture, which many shops list among the others; it is left out.

    Returns:
        A JSON array for each row, null without pictures; and reason → rows that cannot be read, only reasons that
        occur.

    Raises:
        ContractError: the whole column is of a type that cannot be read.
    """
    import pandas as pd

    rows: list[str | None] = []
    unreadable: dict[str, npt.NDArray[np.bool_]] = {}
    found = lists(values, COLUMN, "paths or URLs", place)
    for row, (uris, first) in enumerate(zip(found, main or [None] * len(found), strict=True)):
        texts = [] if uris is None else [text.strip() for text in uris if isinstance(text, str)]
        texts = [
            text for text in dict.fromkeys(texts) if text and text != first and text not in MISSING_VALUES
        ]
        wrong = uris is not None and any(not isinstance(text, str | None) for text in uris)
        if wrong or len(texts) > MAX_PICTURES:
            reason = _NO_LIST if wrong else _TOO_MANY
            unreadable.setdefault(reason, np.zeros(len(values), dtype=np.bool_))[row] = True
        rows.append(packed([picture_files.placed(text, beside) for text in texts]))
    return pd.Series(rows, dtype=pd.ArrowDtype(pa.string())), unreadable


def packed(uris: Sequence[str]) -> str | None:
    """Pictures as IMMR's tables have them."""
    return json.dumps(list(uris), ensure_ascii=False) if uris else None


def unpack(text: str | None) -> tuple[str, ...]:
    """The pictures in a value of IMMR's tables."""
    return tuple(json.loads(text)) if text else ()
