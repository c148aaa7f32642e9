"""Checks of this machine: what is installed, what answers and what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from immr.doctor.endpoints import check_url
from immr.doctor.finding import Finding
from immr.errors import ImmrError
from immr.packaging.application import application_folder, is_checkout
from immr.packaging.requirements import install_command
from immr.settings import Settings
from immr.wiring import Parts

PACKAGES = {
    "train": ("torch", "transformers", "ibis-framework", "duckdb", "mlflow", "onnx", "pandera"),
    "serve": ("bentoml", "openvino", "qdrant-client", "qdrant-edge-py", "feast", "fastapi"),
    "pipeline": ("kfp", "kserve", "kubeflow-training"),
}
URLS = ("tracking", "index", "features", "events", "engine", "launch", "deploy")
_FREE_GB = 2


def examine(parts: Parts) -> list[Finding]:
    """Run all checks; nothing is changed or started."""
    settings = parts.settings
    password_file = settings.features_password_file
    urls = [
        check_url(f"IMMR_{name.upper()}_URL", getattr(settings, f"{name}_url"), password_file)
        for name in URLS
    ]
    if settings.features_registry_url:
        urls.append(check_url("IMMR_FEATURES_REGISTRY_URL", settings.features_registry_url))
    if settings.pixels_url:
        urls.append(check_url("IMMR_PIXELS_URL", settings.pixels_url))
    return [
        _interpreter(),
        *_packages(),
        _home(settings),
        *urls,
        _photos(settings),
        _application(),
        *_registry(parts, tracking=urls[0]),
    ]


def _interpreter() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "Python", sys.version_info[:2] == (3, 11), running, "create the environment with Python 3.11"
    )


def _packages() -> Iterator[Finding]:
    for extra, names in PACKAGES.items():
        if extra == "pipeline" and not is_checkout():
            continue
        missing = [name for name in names if _version(name) is None]
        installed = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        yield Finding(
            f"libraries to {extra}",
            not missing,
            installed if not missing else f"missing: {', '.join(missing)}",
            install_command(extra),
        )


def _home(settings: Settings) -> Finding:
    home = settings.home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    return Finding(
        "IMMR_HOME",
        os.access(existing, os.W_OK) and free_gb > _FREE_GB,
        f"{home}, {free_gb:.0f} GB free",
        f"set IMMR_HOME to a writable folder with {_FREE_GB} GB free",
    )


def _photos(settings: Settings) -> Finding:
    mirror = settings.data_mirror
    mirrored = mirror is not None and (mirror / "grocery" / "classes.csv").is_file()
    return Finding(
        "grocery photos",
        mirrored or mirror is None,
        f"in {mirror}" if mirrored else "not mirrored: downloaded on first use",
        "set IMMR_DATA_MIRROR to the folder that contains grocery/",
    )


def _application() -> Finding:
    return _finding(
        "serving/ (a Bento's source)", lambda: str(application_folder() / "serving"), "correct IMMR_APP"
    )


def _registry(parts: Parts, tracking: Finding) -> Iterator[Finding]:
    if not tracking.ok:
        yield Finding("registry", False, "MLflow does not answer", tracking.remedy)
        return
    if tracking.found.endswith("(created on first use)"):
        yield Finding("registry", True, "no version trained yet", "")
        return

    def holders(first: str) -> str:
        held = [version.id for role, version in parts.registry.roles().items() if role.startswith(first)]
        return ", ".join(held) or "none yet"

    for role in ("champion", "challenger"):
        yield _finding(role, partial(holders, role), "check IMMR_TRACKING_URL and MLflow's log")


def _finding(what: str, question: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, question(), remedy)
    except ImmrError as error:
        return Finding(what, False, str(error), remedy)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
