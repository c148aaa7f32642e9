"""What is installed, reachable and missing, and the remedy for each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from immr.doctor.finding import Finding
from immr.errors import ImmrError
from immr.packaging.application import application_folder
from immr.settings import Settings, without_credentials
from immr.wiring import Parts

PACKAGES = {
    "train": ("torch", "transformers", "ibis-framework", "duckdb", "mlflow", "onnx", "pandera"),
    "serve": ("bentoml", "openvino", "qdrant-client", "feast", "fastapi"),
    "pipeline": ("kfp", "kserve", "kubeflow-training"),
}


def examine(parts: Parts) -> list[Finding]:
    """Look at everything; nothing is changed, nothing is started."""
    return [*_interpreter(), *_packages(), *_places(parts.settings), *_loop(parts)]


def _interpreter() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python", sys.version_info[:2] == (3, 11), found, "make the environment anew with Python 3.11"
    )


def _packages() -> Iterator[Finding]:
    for extra, names in PACKAGES.items():
        missing = [name for name in names if _version(name) is None]
        found = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        yield Finding(
            f"libraries to {extra}",
            not missing,
            found if not missing else f"no {', '.join(missing)}",
            f"pip install -c constraints.txt 'immr[{extra}]'",
        )


def _places(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    yield Finding(
        "IMMR_HOME",
        os.access(existing, os.W_OK) and free_gb > 2,
        f"{home}, {free_gb:.0f} GB free",
        "set IMMR_HOME to a folder that can be written, with 2 GB free",
    )
    for name in ("tracking", "index", "features", "events"):
        yield _place(f"IMMR_{name.upper()}_URL", getattr(settings, f"{name}_url"))
    mirror = settings.data_mirror
    grocery = mirror is not None and (mirror / "grocery" / "classes.csv").is_file()
    yield Finding(
        "grocery photos",
        grocery or mirror is None,
        f"in {mirror}" if grocery else "not mirrored: downloaded on first use",
        "set IMMR_DATA_MIRROR to the folder that has grocery/",
    )


def _place(variable: str, url: str) -> Finding:
    told = without_credentials(url)
    if urlsplit(url).scheme not in ("http", "https"):
        path = Path(urlsplit(url).path)
        return Finding(variable, True, f"{told} ({'there' if path.exists() else 'made on first use'})", "")
    try:
        with urlopen(url, timeout=3):
            return Finding(variable, True, f"{told} answers", "")
    except (URLError, OSError) as error:
        return Finding(
            variable, False, f"{told}: {error}", f"start it, or unset {variable} for the embedded one"
        )


def _loop(parts: Parts) -> Iterator[Finding]:
    yield _asked(
        "serving/ (what Bentos are built from)",
        lambda: str(application_folder() / "serving"),
        "run from IMMR's folder, or set IMMR_APP to it",
    )
    if not Path(urlsplit(parts.settings.tracking_url).path).exists():
        yield Finding("registry", True, "no version trained yet", "")
        return
    for role in ("champion", "challenger"):
        holder = parts.registry.role(role)
        yield Finding(role, True, holder.id if holder else "none yet", "")


def _asked(what: str, question: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, question(), remedy)
    except ImmrError as error:
        return Finding(what, False, str(error), remedy)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
