"""Where KServe finds a Bento; an image is named by its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from immr.cluster.container_registry import MANIFEST, Blob, ImageName, Repository
from immr.deploy.bento_storage import pinned, storage_uri
from immr.errors import DeployError
from immr.packaging.application import application_folder

BENTO = "immr-search:immr-3"


@pytest.mark.parametrize(
    ("storage", "uri"),
    [
        ("pvc://immr-home/bentoml/bentos", "pvc://immr-home/bentoml/bentos/immr-search/immr-3"),
        ("s3://bucket/bentos/", "s3://bucket/bentos/immr-search/immr-3/"),
        ("gs://bucket", "gs://bucket/immr-search/immr-3/"),
        ("oci://registry.example/immr/", "oci+native://registry.example/immr/immr-search:immr-3"),
    ],
)
def test_the_address_follows_the_kind_of_storage(storage: str, uri: str) -> None:
    assert storage_uri(storage, BENTO) == uri


def test_kserve_fetches_one_version_from_an_object_store() -> None:
    """Its storage initializer 0.20 lists objects by prefix, and strips the prefix from their names."""
    keys = [f"bentos/immr-search/{version}/bento.yaml" for version in ("immr-7", "immr-70", "immr-71")]
    prefix = storage_uri("s3://bucket/bentos", "immr-search:immr-7").removeprefix("s3://bucket/")
    found = [key.removeprefix(prefix).lstrip("/") for key in keys if key.startswith(prefix)]
    assert found == ["bento.yaml"]


def test_a_bento_has_no_empty_file() -> None:
    """KServe's storage initializer 0.20 skips them in an object store, so a package would lack its `__init__.py`."""
    files = [file for file in (application_folder() / "serving").rglob("*") if file.is_file()]
    assert [file for file in files if file.stat().st_size == 0 and "__pycache__" not in file.parts] == []


def test_an_image_is_named_by_its_digest(
    container_registry: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, folder = container_registry
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    uri = storage_uri(f"oci://{host}/immr", BENTO)
    with pytest.raises(DeployError, match="is not in the registry: package the version again"):
        pinned(uri)
    config = Blob("application/vnd.oci.image.config.v1+json", b"{}")
    manifest = Blob(
        MANIFEST,
        f'{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "layers": [], "config": '
        f'{{"mediaType": "{config.media_type}", "digest": "{config.digest}", "size": 2}}}}'.encode(),
    )
    with Repository(ImageName(host, "immr/immr-search", "immr-3")) as repository:
        repository.push("immr-3", manifest, [config])
    assert pinned(uri) == f"oci+native://{host}/immr/immr-search@{manifest.digest}"


def test_other_storage_stays_as_it_is() -> None:
    assert pinned("s3://bucket/bentos/immr-search/immr-3") == "s3://bucket/bentos/immr-search/immr-3"


def test_a_registry_that_is_away_is_named() -> None:
    with pytest.raises(DeployError, match=r"cannot be looked up .* check `storage`"):
        pinned("oci+native://127.0.0.1:9/immr/immr-search:immr-3")
