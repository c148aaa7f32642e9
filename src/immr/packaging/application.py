"""The application folder: where `serving/` and `dashboards/` are, which the installed package does not carry."""

from __future__ import annotations

import os
from pathlib import Path

from immr.errors import SettingsError


def application_folder() -> Path:
    """The folder with `serving/` and `dashboards/`: $IMMR_APP, or the working folder.

    Raises:
        SettingsError: it does not hold `serving/bento/service.py`.
    """
    folder = Path(os.environ.get("IMMR_APP", ".")).absolute()
    if not (folder / "serving" / "bento" / "service.py").is_file():
        raise SettingsError(
            f"no serving/bento/service.py in {folder}: run from IMMR's folder, or set IMMR_APP to it"
        )
    return folder
