"""Wheel build hook: adds `serving/` and `dashboards/`, so that an installed IMMR can package and serve."""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ApplicationHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the application's folders as `immr/_application/`; an editable install uses them in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the build; `version` is "standard" or "editable"."""
        if version == "editable" or os.environ.get("IMMR_WHEEL_ALONE"):  # a Bento has its own serving/
            return
        for name in ("serving", "dashboards"):
            if (Path(self.root) / name).is_dir():  # an image that needs neither does not copy them
                build_data["force_include"][name] = f"immr/_application/{name}"
