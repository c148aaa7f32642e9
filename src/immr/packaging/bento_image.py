"""A Bento as a container image with one layer, which Kubernetes mounts as a volume."""

from __future__ import annotations

import json
import platform
import tarfile
import tempfile
from pathlib import Path

from immr.cluster.container_registry import MANIFEST, Blob, ImageName, Repository

FOLDER = "models"  # KServe mounts this folder of the image
_CONFIG, _LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def push(bento: Path, image: ImageName) -> bool:
    """Push a Bento's folder as an image, unless the registry has it; the same files give the same image.

    A node only pulls an image of its own architecture, so nodes must have this machine's.

    Returns:
        Whether it was pushed.

    Raises:
        OSError: The registry does not answer or refuses, or the Bento cannot be read.
        ValueError: Docker's configuration is damaged.
    """
    with Repository(image) as repository, tempfile.TemporaryDirectory(prefix="immr-image-") as temporary:
        layer = Blob(_LAYER, Path(temporary) / "layer.tar")
        _write_layer(bento, Path(temporary) / "layer.tar")
        config = Blob(_CONFIG, _json(_config(layer)))
        manifest = Blob(MANIFEST, _json(_manifest(config, layer)))
        if repository.digest_of(image.tag) == manifest.digest:
            return False
        repository.push(image.tag, manifest, [layer, config])
        return True


def _write_layer(folder: Path, file: Path) -> None:
    """The folder as a tar archive whose bytes depend on names and content only; linked files become files."""
    with tarfile.open(file, "w", dereference=True) as archive:
        for path in [folder, *sorted(folder.rglob("*"))]:
            member = archive.gettarinfo(path, str(FOLDER / path.relative_to(folder)))
            member.mtime = member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() else 0o644
            if member.isreg():
                with path.open("rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)


def _config(layer: Blob) -> dict[str, object]:
    machine = platform.machine()
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    }


def _manifest(config: Blob, layer: Blob) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.described(),
        "layers": [layer.described()],
    }


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
