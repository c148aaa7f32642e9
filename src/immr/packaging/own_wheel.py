"""IMMR's wheel for Bentos, without the application: built from the checkout or from the installed files."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from immr.errors import PackagingError

_NOT_IN_A_WHEEL = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # the installer writes them
_FIXED_DATE = (2020, 2, 2, 0, 0, 0)
_SOURCE_DATE_EPOCH = "1580601600"  # the same date
_TIMEOUT_S = 300


def write_own_wheel(folder: Path) -> Path:
    """Write immr's wheel into a new folder; the same code gives the same bytes.

    Raises:
        PackagingError: The build failed, or installed files are missing.
    """
    folder.mkdir()
    distribution = importlib.metadata.distribution("immr")
    if source := _checkout(distribution):
        _build(source, folder)
    else:
        _repack(distribution, folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _checkout(distribution: importlib.metadata.Distribution) -> Path | None:
    """The folder of an editable install, or None."""
    described = json.loads(distribution.read_text("direct_url.json") or "{}")
    url = described.get("url", "")
    if not described.get("dir_info", {}).get("editable") or not url.startswith("file://"):
        return None
    return Path(url2pathname(urlsplit(url).path))


def _build(source: Path, folder: Path) -> None:
    """Build with hatchling, which needs no network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH, "IMMR_WHEEL_ALONE": "1"},
        cwd=source,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise PackagingError(f"immr's wheel could not be built from {source}; the last lines:\n{last}")


def _repack(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    """Put the installed files back into a wheel."""
    info = f"immr-{distribution.version}.dist-info"
    rows: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(folder / f"immr-{distribution.version}-py3-none-any.whl", "w") as wheel:
        for name in _packaged_files(distribution):
            try:
                content = Path(str(distribution.locate_file(name))).read_bytes()
            except OSError as error:
                raise PackagingError(
                    f"{error}: install immr again, because one of its files is missing"
                ) from error
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append((name, f"sha256={digest}", str(len(content))))
            wheel.writestr(zipfile.ZipInfo(name, _FIXED_DATE), content)
        record = io.StringIO()
        csv.writer(record, lineterminator="\n").writerows([*rows, (f"{info}/RECORD", "", "")])
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", _FIXED_DATE), record.getvalue())


def _packaged_files(distribution: importlib.metadata.Distribution) -> list[str]:
    names = sorted(str(file) for file in distribution.files or [])
    return [
        name
        for name in names
        if not name.startswith("..")  # scripts
        and "__pycache__" not in name
        and Path(name).name not in _NOT_IN_A_WHEEL
        and not name.startswith(("bin/", "immr/_application/"))
    ]
