"""A model in Hugging Face layout: found by name or as a folder, and what its config files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from immr.errors import RecipeError

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "pytorch_model.bin")


def is_named(name: str) -> bool:
    """Whether the name is a folder with a config.json, or looks like `owner/model`."""
    return (Path(name) / "config.json").is_file() or (
        name.count("/") == 1 and all(name.split("/")) and name[0] not in "./~"
    )


def folder_of(name: str) -> Path:
    """The folder itself, or the one in Hugging Face's cache, fetched on first use.

    Raises:
        RecipeError: it is not there and cannot be fetched.
    """
    if (Path(name) / "config.json").is_file():
        return Path(name).absolute()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_WANTED)))
    except (OSError, ValueError) as error:  # its own errors derive from these
        raise RecipeError(
            f"the model {name!r} could not be fetched ({error}): check the name and the network, or give the "
            "folder of a copy that `save_pretrained` wrote"
        ) from error


def weights_of(folder: Path) -> Path:
    """The file that holds the weights, or lists the files that do.

    Raises:
        RecipeError: there is none.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise RecipeError(f"{folder} holds no weights: it needs one of {', '.join(_WEIGHTS)}")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A config file; empty where it is missing.

    Raises:
        RecipeError: it is no JSON object.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"{path} is no JSON ({error}): fetch the model again") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{path} is no JSON object: fetch the model again")
    return fields


def quiet() -> None:
    """No progress bars: transformers draws them even where there is no terminal."""
    from transformers.utils import logging as transformers_logging

    silence: Any = transformers_logging.disable_progress_bar
    silence()
