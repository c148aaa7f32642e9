"""Memory and disk for building a collection, from the number of items. Checked by `python -m benchmarks.shop`."""

from __future__ import annotations

from immr.machine.capacity import GIB, Need
from immr.machine.wording import counted

_BASE = 1.2 * GIB  # Python with torch and Qdrant Edge
_ITEM = 5_000  # bytes of an item as Python objects, with its words and its links in the graph
_STORED = 3_000  # bytes on disk of a payload and of links
_FLOAT = 4
# copies of an embedding in files: as encoded, in order, in the database and its optimized segment
_MAPPED = 4


def need(items: int, dim: int, here: bool = True, further: int = 0) -> Need:
    """Estimate the memory and disk for building a collection.

    Args:
        items: Number of documents.
        dim: Numbers in an embedding.
        here: Whether the database is embedded in this process.
        further: Embeddings of all items beyond the first of each: of additional pictures and of class photos.
    """
    numbers = _FLOAT * dim * (items + further)
    memory = _BASE + items * _ITEM + numbers
    disk = items * _STORED + _MAPPED * numbers if here else 2 * numbers
    return Need(memory, disk, counted(items, "item"), "use a Qdrant server (IMMR_INDEX_URL)")
