"""Proposes a mapping of a shop's table, with the query of its system if that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from immr.data.column_types import simplified
from immr.data.contract import ITEMS
from immr.data.mapping.known_systems import known_system
from immr.data.mapping.proposal import MappingProposal, one_row_for_each_item, propose
from immr.data.sources import table_recognition
from immr.data.sources.files import FilePart
from immr.data.sources.shop import ShopTable
from immr.data.sources.sql_tables import QueriedPart
from immr.data.validation.hidden_rows import about_hidden_rows
from immr.errors import ContractError

_PROPOSED_FROM = 2_000  # rows


def proposed(table: ShopTable) -> MappingProposal | None:
    """A mapping of a table, from the first rows of its first file; None if they cannot be read."""
    part, mapping, notes = table.parts[0], table.mapping, list[str]()
    try:
        if isinstance(part, FilePart):
            part = replace(table_recognition.decodable(part), flat=frozenset())
            notes = [table_recognition.about_encoding(part)] if part.encoding != mapping.encoding else []
            mapping = replace(mapping, encoding=part.encoding)
        there = part.columns()
        if table.contract.name == ITEMS.name and (system := known_system(there)):
            mapping = replace(mapping, sql=system.sql(there))
            part = QueriedPart([part], mapping.sql, table.contract.name)
            notes = [*notes, f"an export of {system.name}: {system.note}"]
        sample = next(iter(part.batches(_PROPOSED_FROM)), None)
        if isinstance(part, QueriedPart) and sample is not None:
            there = list(sample.schema.names)
    except ContractError:
        return None
    there = _only_once(there)
    if sample is not None:
        names = _only_once(sample.schema.names)
        columns = [simplified(sample.column(name)) for name in names]
        sample = pa.RecordBatch.from_arrays(columns, names=names)
    found = propose(table.contract, there, sample, mapping)
    if table.contract.name == ITEMS.name and not mapping.sql and sample is not None:
        notes = [*notes, *about_hidden_rows(sample)]
        found = one_row_for_each_item(found, sample)
    return replace(found, notes=[*notes, *found.notes])


def _only_once(names: Sequence[str]) -> list[str]:
    """Without those that are there several times, of which none can be read."""
    return [name for name, count in Counter(names).items() if count == 1]
