import dataclasses

import pytest

from immr.errors import IndexMismatchError
from immr.index.binding import Binding, check_binding

BINDING = Binding("immr-3", 4, "prep", "hash", 10)


def test_a_binding_round_trips_through_metadata():
    assert Binding.from_metadata(BINDING.as_metadata()) == BINDING


@pytest.mark.parametrize("metadata", [None, {}, {"version_id": "immr-3"}])
def test_metadata_of_other_collections_is_not_a_binding(metadata):
    assert Binding.from_metadata(metadata) is None


def test_the_matching_encoder_passes():
    check_binding("immr_immr-3", BINDING, "immr-3", 4, "prep")


def test_a_binding_of_an_earlier_release_does_not_know_its_training_set():
    earlier = {name: value for name, value in BINDING.as_metadata().items() if name != "manifest_hash"}
    found = Binding.from_metadata(earlier)
    assert found is not None and found.manifest_hash == ""
    check_binding("immr_immr-3", found, "immr-3", 4, "prep", "manifest")


def test_a_mismatch_names_what_differs_on_both_sides():
    other = dataclasses.replace(BINDING, version_id="immr-2", dim=8)
    with pytest.raises(
        IndexMismatchError, match=r"built for version immr-2, dim 8, but .* dim 4\. It may belong to another"
    ):
        check_binding("immr_immr-3", other, "immr-3", 4, "prep")
