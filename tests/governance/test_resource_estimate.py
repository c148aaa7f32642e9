"""What governance needs grows with the tables, and less of it without appearance or with Spark."""

from dataclasses import replace

import pytest

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.principal_components import COMPONENTS
from immr.governance.resource_estimate import Counts, need
from immr.machine.capacity import GIB

RECIPE = GovernanceRecipe()
NO_APPEARANCE = replace(RECIPE, clean_labels=False)
F = 1280


def test_it_is_near_what_was_measured():
    """`benchmarks.governance scale`: 1.45 GiB for 10 million rows, 6.34 GiB for 100 million."""
    for rows, measured_gib in ((10_000_000, 1.45), (100_000_000, 6.34)):
        counts = Counts(rows // 80, rows // 8, rows)
        assert measured_gib < need(counts, NO_APPEARANCE, F).memory_bytes / GIB < measured_gib + 3


def test_appearance_needs_the_embeddings_of_photos_and_centres_of_classes():
    counts = Counts(200_000, 300_000, 20_000_000)
    with_it, without = need(counts, RECIPE, F), need(counts, NO_APPEARANCE, F)
    extra = COMPONENTS * (3 * 300_000 + 8 * 200_000)
    assert with_it.memory_bytes - without.memory_bytes == pytest.approx(4 * extra)
    many = Counts(1_000_000, 300_000, 20_000_000)  # in which at most 200,000 classes have 1.5 photos
    assert need(many, RECIPE, F).memory_bytes - need(many, NO_APPEARANCE, F).memory_bytes == pytest.approx(
        4 * extra
    )
    few = Counts(1_000, 2_000, 10_000)
    extra = F * (3 * 2_000 + 8 * 1_000)
    assert need(few, RECIPE, F).memory_bytes - need(few, NO_APPEARANCE, F).memory_bytes == pytest.approx(
        4 * extra
    )
    assert "clean_labels" in with_it.way_out and "Spark" in without.way_out
    assert with_it.counts == "200,000 items, 300,000 photos and 20,000,000 impressions"


def test_a_cluster_holds_the_tables():
    counts = Counts(1_000, 1_000, 100_000_000)
    here, there = (need(counts, NO_APPEARANCE, F, on_duckdb) for on_duckdb in (True, False))
    assert here.memory_bytes - there.memory_bytes == pytest.approx(6 * GIB) and there.disk_bytes == 0
