"""Where KServe finds a version's Bento: a folder on a claim or in an object store, or an image in a registry."""

from __future__ import annotations

from immr.cluster.container_registry import ImageName, Repository
from immr.errors import DeployError

_CLAIM = "pvc://"
_IMAGES = "oci://"
_MOUNTED = "oci+native://"
"""Has KServe mount an image instead of starting it as a container, which would need a shell in it."""


def storage_uri(storage: str, bento: str) -> str:
    """The address of a Bento, below the `storage` of IMMR_DEPLOY_URL.

    Raises:
        DeployError: The tag has no version.
    """
    name, _, tag = bento.partition(":")
    if not tag:
        raise DeployError(f"the Bento's tag {bento!r} has no version: give a tag such as immr-search:immr-3")
    folder = storage.rstrip("/")
    if folder.startswith(_IMAGES):
        return f"{_MOUNTED}{folder.removeprefix(_IMAGES)}/{bento}"
    # KServe fetches everything in an object store whose name begins so: without the slash, immr-70 for immr-7, too
    return f"{folder}/{name}/{tag}" + ("" if folder.startswith(_CLAIM) else "/")


def pinned(uri: str) -> str:
    """The same address; an image's with the digest of what its tag names now.

    A node that has pulled a tag keeps that image, even after the Bento was built again.

    Raises:
        DeployError: The registry does not have the image, or does not answer.
    """
    if not uri.startswith(_MOUNTED):
        return uri
    try:
        image = ImageName.of(uri.removeprefix(_MOUNTED))
        with Repository(image) as repository:
            digest = repository.digest_of(image.tag)
    except (OSError, ValueError) as error:
        raise DeployError(
            f"{uri} cannot be looked up ({error}): check `storage` in IMMR_DEPLOY_URL and the login in DOCKER_CONFIG"
        ) from error
    if digest is None:
        raise DeployError(f"{uri} is not in the registry: package the version again")
    return f"{_MOUNTED}{image.place}@{digest}"
