"""Configs of `transformers` models: defaults filled in, the half of a two-sided model picked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from immr.model.encoders.model_folder import CONFIG, read_json


def half_config(folder: Path, half: str) -> dict[str, Any]:
    """The config's `vision_config` or `text_config`, or the whole if there is none, with all defaults."""
    from transformers import AutoConfig

    config = read_json(folder, CONFIG)
    inner = config.get(half)
    config = inner if isinstance(inner, dict) else config
    try:  # published files leave out what equals the model type's default
        whole: dict[str, Any] = AutoConfig.for_model(**config).to_dict()
    except (KeyError, TypeError, ValueError):
        return config
    return whole


def model_type(folder: Path) -> str:
    """The `model_type` of the config, "clip" or "convnext"; empty if it has none."""
    return str(read_json(folder, CONFIG).get("model_type", ""))


def hide_progress_bars() -> None:
    """`transformers` draws progress bars even without a terminal."""
    from transformers.utils import logging as transformers_logging

    disable: Any = transformers_logging.disable_progress_bar
    disable()
