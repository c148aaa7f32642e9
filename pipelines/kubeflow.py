"""Uploads, starts and schedules pipelines on Kubeflow Pipelines."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from immr import __version__
from immr.errors import SettingsError

if TYPE_CHECKING:
    from kfp.client import Client

PIPELINES = ("refresh", "decide", "catalogue", "start")
_PAGE = 100


def compile_to(name: str, folder: Path) -> Path:
    """Compile one pipeline to `<folder>/<name>.yaml`."""
    from kfp import compiler

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    compiler.Compiler().compile(getattr(import_module(f"pipelines.{name}"), name), str(path))
    return path


def connect(host: str) -> Client:
    """A client for the server at `host`, or for the server in the kubeconfig.

    With KF_PIPELINES_SA_TOKEN_PATH it sends the token in that file, which a pod with profiles needs.

    Raises:
        SettingsError: The server does not answer.
    """
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, Client
    from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

    # kfp only uses the token by itself if no host is given
    token = ServiceAccountTokenVolumeCredentials() if os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # announces that this client speaks API version 2
            return Client(host=host or None, credentials=token)
    except Exception as error:  # kfp raises whatever its parts raise: urllib3, kubernetes, ValueError
        raise SettingsError(
            f"Kubeflow Pipelines does not answer at {host or 'the address in the kubeconfig'} ({error}): "
            "forward its port (`kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8888:80`), or name another "
            "address with --endpoint or KFP_ENDPOINT"
        ) from error


def title(name: str) -> str:
    """A pipeline's display name in Kubeflow."""
    return f"immr-{name}"


def uploaded(client: Client, name: str, version: str = "", namespace: str = "") -> tuple[str, str] | None:
    """The ids of a pipeline and of its version with this name (by default IMMR's version), if it was uploaded.

    Args:
        client: Of a server.
        name: One of `PIPELINES`.
        version: The version's name.
        namespace: Of the profile; empty for that of this pod's profile, and without profiles.
    """
    pipeline = _pipeline_id(client, name, namespace)
    there = _version_id(client, pipeline, version or __version__) if pipeline else None
    return (pipeline, there) if pipeline and there else None


def upload(client: Client, name: str, version: str = "", namespace: str = "") -> tuple[str, str]:
    """Upload a pipeline as a version with this name, unless that version exists; for the arguments see `uploaded`.

    Returns:
        The ids of the pipeline and of the version.
    """
    pipeline = _pipeline_id(client, name, namespace)
    if pipeline and (there := _version_id(client, pipeline, version or __version__)):
        return pipeline, there
    with tempfile.TemporaryDirectory() as folder:
        file = str(compile_to(name, Path(folder)))
        if pipeline is None:
            made = client.upload_pipeline(file, title(name), namespace=_profile(client, namespace))
            pipeline = str(made.pipeline_id)
        made = client.upload_pipeline_version(file, version or __version__, pipeline_id=pipeline)
    for existing in list(_versions(client, pipeline)):
        # Kubeflow also creates a version named after the pipeline from the first upload
        if existing.display_name == title(name):
            client.delete_pipeline_version(pipeline, existing.pipeline_version_id)
    return pipeline, str(made.pipeline_version_id)


def _profile(client: Client, namespace: str) -> str | None:
    """Where pipelines are; None without profiles. A profile's user may not write what all profiles share."""
    return namespace or client.get_user_namespace() or None


def _pipeline_id(client: Client, name: str, namespace: str) -> str | None:
    """The client's own `get_pipeline_id` searches only among pipelines that all profiles share."""
    named = {"operation": "EQUALS", "key": "display_name", "stringValue": title(name)}
    found = client.list_pipelines(
        filter=json.dumps({"predicates": [named]}), namespace=_profile(client, namespace)
    )
    return str(found.pipelines[0].pipeline_id) if found.pipelines else None


def _version_id(client: Client, pipeline: str, version: str) -> str | None:
    named = (each for each in _versions(client, pipeline) if each.display_name == version)
    return next((str(each.pipeline_version_id) for each in named), None)


def _versions(client: Client, pipeline: str) -> Iterator[Any]:
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline, page_token=token, page_size=_PAGE)
        yield from page.pipeline_versions or []
        token = page.next_page_token or ""
        if not token:
            return
