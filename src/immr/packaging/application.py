"""The application folder: `serving/` and `dashboards/`, which Bentos and processes are started from."""

from __future__ import annotations

import os
from pathlib import Path

import immr
from immr.errors import SettingsError

_PACKAGE = Path(immr.__file__).parent
_INSIDE_THE_WHEEL = _PACKAGE / "_application"  # hatch_build.py puts it there
_CHECKOUT = _PACKAGE.parents[1]


def application_folder() -> Path:
    """The folder with `serving/` and `dashboards/`: $IMMR_APP, or that of this installation or checkout.

    Raises:
        SettingsError: No such folder contains `serving/bento/service.py`.
    """
    if named := os.environ.get("IMMR_APP"):
        folder = Path(named).absolute()
        if not _is_application(folder):
            raise SettingsError(f"IMMR_APP={named} has no serving/bento/service.py: correct or unset it")
        return folder
    for folder in (_INSIDE_THE_WHEEL, _CHECKOUT):
        if _is_application(folder):
            return folder
    raise SettingsError(
        f"this installation of IMMR ({_PACKAGE}) has no serving/: install the wheel, or set IMMR_APP to a checkout"
    )


def is_checkout() -> bool:
    """Whether IMMR runs from its repository, which pipelines need, and not from an installed wheel."""
    return (_CHECKOUT / "pipelines" / "__main__.py").is_file()


def _is_application(folder: Path) -> bool:
    return (folder / "serving" / "bento" / "service.py").is_file()
