"""Serves a Bento with the release of IMMR that built it, whichever release is installed.

A Bento carries IMMR's wheel. An upgrade replaces the installed IMMR below Bentos of the previous release, whose
`serving/` does not fit the new one. So `python -m immr.packaging.serve BENTO …` puts the wheel's code first on
Python's path, and then becomes `bentoml serve BENTO …`.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from immr.errors import ImmrError, PackagingError
from immr.packaging import unpacked_code
from immr.storage import fingerprint

log = logging.getLogger(__name__)


def serve(bento: str, options: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by `bentoml serve`.

    Args:
        bento: Tag in BentoML's store, or folder of a Bento, with a slash in it.
        options: Options of `bentoml serve`.
        environment: Variables of the new process.

    Raises:
        PackagingError: The Bento's wheel cannot be unpacked.
    """
    store = Path(environment.get("BENTOML_HOME") or Path.home() / "bentoml")  # BentoML's own default
    folder = Path(bento) if "/" in bento else store / "bentos" / bento.replace(":", "/")
    path = environment.get("PYTHONPATH", "")
    if code := own_code(folder, store / "code"):
        path = os.pathsep.join(filter(None, [str(code), path]))
        unpacked_code.delete_unused(store / "code")
        if others := _other_libraries(folder):
            log.warning("%s was built with other libraries than are installed: %s", bento, ", ".join(others))
    command = [sys.executable, "-m", "bentoml", "serve", bento, *options]
    os.execve(sys.executable, command, {**environment, "PYTHONPATH": path})


def own_code(bento: Path, unpacked: Path) -> Path | None:
    """The folder with the code of a Bento's wheel, unpacked once; None if the Bento has no wheel.

    It is kept as long as this process runs, also as another program (`unpacked_code`).

    Args:
        bento: The Bento's folder.
        unpacked: Keeps the code of every wheel, in a folder named after the wheel's content.

    Raises:
        PackagingError: The wheel is damaged or cannot be unpacked.
    """
    wheels = sorted((bento / "env" / "python" / "wheels").glob("immr-*.whl"))
    if not wheels:
        return None
    try:
        target = unpacked / fingerprint.of_file(wheels[-1])[:16]
        unpacked_code.unpack(wheels[-1], target)
        return target
    except (OSError, zipfile.BadZipFile) as error:
        raise PackagingError(
            f"{wheels[-1]} cannot be unpacked to {unpacked} ({error}): free some space there, or "
            "package the version again"
        ) from error


def _other_libraries(bento: Path) -> list[str]:
    """Pinned requirements that are missing here or have another version."""
    file = bento / "env" / "python" / "requirements.txt"
    pins = [line.partition("==") for line in file.read_text().splitlines()] if file.is_file() else []
    others = []
    for name, _, version in pins:
        try:
            here = importlib.metadata.version(name).split("+")[0]  # pins have no local version either
        except (importlib.metadata.PackageNotFoundError, ValueError):
            here = "missing"
        if version and here != version:
            others.append(f"{name} {version} (here {here})")
    return others


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m immr.packaging.serve BENTO [OPTION OF `bentoml serve` …]")
    try:
        serve(sys.argv[1], sys.argv[2:], os.environ)
    except ImmrError as error:
        sys.exit(f"{type(error).__name__}: {error}")
