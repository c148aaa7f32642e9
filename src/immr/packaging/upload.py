"""Copies a Bento to an object store or a container registry, where KServe fetches it for every pod."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr.cluster.container_registry import ImageName
from immr.errors import PackagingError
from immr.machine.progress_bar import elapsed, with_progress
from immr.packaging import bento_image
from immr.settings import without_credentials

if TYPE_CHECKING:
    import pyarrow.fs as fs

log = logging.getLogger(__name__)

_LAST = "bento.yaml"  # names the build whose files are there, unless _UNFINISHED is
_UNFINISHED = "upload-unfinished"
_UPLOADS_AT_ONCE = 8
_PIECE_BYTES = 1 << 20
_IMAGES = "oci://"
STORES = ("s3://", "gs://", _IMAGES)


def upload(bento_home: Path, tag: str, store: str) -> str:
    """Copy a Bento to `<store>/<name>/<version>`, unless it is there already.

    Args:
        bento_home: BentoML's store on this machine.
        tag: The Bento's tag, such as "immr-search:immr-3".
        store: A folder such as `s3://bucket/bentos`, whose credentials come from the environment (AWS_…), or
            `oci://registry.example/immr`, whose login comes from the folder DOCKER_CONFIG.

    Returns:
        The address of the copy.

    Raises:
        PackagingError: The store does not answer, or refuses.
    """
    if store.startswith(_IMAGES):
        return _push(bento_home, tag, store)
    name, _, version = tag.partition(":")
    folder = bento_home / "bentos" / name / version
    address = f"{store.rstrip('/')}/{name}/{version}"
    try:
        filesystem, path = _opened(address)
        unfinished = f"{path}/{_UNFINISHED}"
        is_there = _read(filesystem, f"{path}/{_LAST}") == (folder / _LAST).read_bytes()
        if is_there and _read(filesystem, unfinished) is None:
            log.info("%s already holds %s", without_credentials(address), tag)
            return address
        files = [file for file in folder.rglob("*") if file.is_file() and file != folder / _LAST]
        earlier = _files(filesystem, path) - {_UNFINISHED}
        with filesystem.open_output_stream(unfinished) as mark:
            mark.write(b"Files of two builds may be here: package the version again.\n")

        def copy(file: Path) -> None:
            place = f"{path}/{file.relative_to(folder).as_posix()}"
            with file.open("rb") as content, filesystem.open_output_stream(place) as there:
                shutil.copyfileobj(content, there, _PIECE_BYTES)

        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            for _ in with_progress(pool.map(copy, files), f"copying {tag}", "files", len(files)):
                pass
        # a pod may fetch the Bento meanwhile, so the earlier build's files go once all of the new ones are there
        for name in earlier - {file.relative_to(folder).as_posix() for file in [*files, folder / _LAST]}:
            filesystem.delete_file(f"{path}/{name}")
        copy(folder / _LAST)
        filesystem.delete_file(unfinished)
    except (OSError, ValueError) as error:
        raise PackagingError(
            f"{tag} could not be copied to {without_credentials(address)} ({error}): check `storage` in "
            "IMMR_DEPLOY_URL and the credentials (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), then package it again"
        ) from error
    log.info("copied %s to %s", tag, without_credentials(address))
    return address


def missing(tag: str, store: str) -> str:
    """Why KServe would not find the whole Bento in an object store; empty if it would.

    A store of images is not asked: `deploy` resolves the image's tag.
    """
    if store.startswith(_IMAGES) or not store.startswith(STORES):
        return ""
    name, _, version = tag.partition(":")
    address = f"{store.rstrip('/')}/{name}/{version}"
    shown = without_credentials(address)
    try:
        filesystem, path = _opened(address)
        if _read(filesystem, f"{path}/{_LAST}") is None:
            return f"{shown} holds no Bento"
        if _read(filesystem, f"{path}/{_UNFINISHED}") is not None:
            return f"the upload to {shown} has not finished"
    except (OSError, ValueError) as error:
        return f"{shown} cannot be read ({error})"
    return ""


def _push(bento_home: Path, tag: str, store: str) -> str:
    name, _, version = tag.partition(":")
    address = f"{store.rstrip('/')}/{tag}"
    try:
        image = ImageName.of(address.removeprefix(_IMAGES))
        with elapsed(f"pushing {tag}"):
            pushed = bento_image.push(bento_home / "bentos" / name / version, image)
    except (OSError, ValueError) as error:
        raise PackagingError(
            f"{tag} could not be pushed to {address} ({error}): check `storage` in IMMR_DEPLOY_URL and the login "
            "in DOCKER_CONFIG, then package it again"
        ) from error
    log.info("pushed %s to %s" if pushed else "%s is already in %s", tag, store)
    return address


def _opened(address: str) -> tuple[fs.FileSystem, str]:
    """A store whose writes wait for the network: in the background, S3's would queue whole files in memory."""
    import pyarrow.fs as fs

    filesystem, path = fs.FileSystem.from_uri(address)
    if isinstance(filesystem, fs.S3FileSystem):
        _, (options,) = filesystem.__reduce__()  # a URI cannot set this option
        filesystem = fs.S3FileSystem(**options | {"background_writes": False})
    return filesystem, path


def _files(filesystem: fs.FileSystem, path: str) -> set[str]:
    """Names of the files in a folder and below, relative to it."""
    import pyarrow.fs as fs

    there = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    return {info.path.removeprefix(f"{path}/") for info in there if info.type == fs.FileType.File}


def _read(filesystem: fs.FileSystem, path: str) -> Any:
    """The content of a file; None if there is none."""
    try:
        with filesystem.open_input_stream(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
