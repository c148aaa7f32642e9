from dataclasses import replace

from immr.index.vector_index import Content
from tests.support import tiny_version


def test_a_content_belongs_to_the_version_with_its_training_set():
    version = tiny_version.version()
    assert Content("immr_immr-1--9f3a", 0, version.manifest_hash).is_of(version)
    assert not Content("immr_immr-1--9f3a", 0, "of another shop").is_of(replace(version, manifest_hash="m"))
    assert Content("immr_immr-1--9f3a", 0).is_of(version), "built by an earlier release"
