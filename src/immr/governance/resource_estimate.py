"""Memory and disk for governance, from row counts; constants: `benchmarks.governance scale`, `benchmarks.shop`."""

from __future__ import annotations

from dataclasses import dataclass

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import MIN_SUPPORT
from immr.governance.labels.principal_components import components
from immr.machine.capacity import GIB, Need
from immr.machine.wording import counted

_BASE = 1.4 * GIB  # Python with its libraries, DuckDB at rest, and the encoder
_PER_IMPRESSION = 110  # bytes of DuckDB, up to its limit
_ENGINE = 6 * GIB  # DuckDB's limit, beyond which it spills to disk
_SPILLED_PER_IMPRESSION = 60
_KEY = 16  # bytes for a key of the contract
_FLOAT = 4
_COPIES_OF_COMPONENTS = 3  # of photos: those compared, and centred with its temporary
# of classes with enough photos: four in float64, which are sums, a fold's, the others', whitened
_COPIES_OF_CENTRES = 8


@dataclass(frozen=True)
class Counts:
    """Rows of a shop's tables."""

    items: int
    queries: int
    impressions: int


def need(counts: Counts, recipe: GovernanceRecipe, features: int, on_duckdb: bool = True) -> Need:
    """Estimate the memory and disk for governing a shop.

    Args:
        counts: Rows of its tables.
        recipe: Whether labels are compared with embeddings.
        features: F, of an embedding.
        on_duckdb: Whether tables are computed in this process.
    """
    memory = _BASE + _KEY * (counts.items + counts.queries + counts.impressions)
    disk = 0.0
    if on_duckdb:
        memory += min(_ENGINE, _PER_IMPRESSION * counts.impressions)
        disk += _SPILLED_PER_IMPRESSION * counts.impressions
    if recipe.clean_labels:
        kept = components(counts.queries, counts.items, features)
        classes = min(counts.items, counts.queries / MIN_SUPPORT)
        memory += _FLOAT * kept * (_COPIES_OF_COMPONENTS * counts.queries + _COPIES_OF_CENTRES * classes)
        disk += 1.5 * _FLOAT * features * counts.queries  # the cache of features, and a mapped copy
    way_out = "turn the recipe's clean_labels off" if recipe.clean_labels else "use Spark (IMMR_ENGINE_URL)"
    rows = (
        f"{counted(counts.items, 'item')}, {counted(counts.queries, 'photo')} and "
        f"{counted(counts.impressions, 'impression')}"
    )
    return Need(memory, disk, rows, way_out)
