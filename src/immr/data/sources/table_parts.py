"""The parts of a table: one file each, or one table of a warehouse, read as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

CHUNK_ROWS = 131_072
MALFORMED = "malformed_line"
"""A column with the text of lines that cannot be split into the table's columns; null for all other rows."""


class TablePart(Protocol):
    """Some rows of a table."""

    @property
    def place(self) -> str:
        """Where they are, for messages."""

    def columns(self) -> list[str]:
        """The names of their columns.

        Raises:
            ContractError: they cannot be read.
        """

    def batches(
        self, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows in their own types, in batches of at most `rows`; by default all columns.

        Raises:
            ContractError: they cannot be read.
        """

    def rows(self) -> int | None:
        """Approximate number of rows; None if counting would require reading all of them.

        Raises:
            ContractError: they cannot be read.
        """

    def state(self) -> str:
        """Differs once the rows have changed."""

    def stamp(self) -> str:
        """Differs once the rows have changed, as far as one can tell without reading them.

        Raises:
            ContractError: their place does not answer.
        """
