"""A published model's folder: on disk, or fetched by name from the Hugging Face hub; its config files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from immr.errors import RecipeError

CONFIG = "config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "pytorch_model.bin", "open_clip_pytorch_model.bin")


def is_named(name: str) -> bool:
    """Whether the name is a model's folder, or has the form `owner/model`."""
    return _is_folder(Path(name)) or (name.count("/") == 1 and all(name.split("/")) and name[0] not in "./~")


def folder_of(name: str) -> Path:
    """The folder itself, or the one in the Hugging Face cache, fetched on first use.

    Raises:
        RecipeError: the model is not in the cache and cannot be fetched.
    """
    if _is_folder(Path(name)):
        return Path(name).absolute()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FETCHED)))
    except (OSError, ValueError) as error:  # the library's errors derive from these
        raise RecipeError(
            f"cannot fetch the model {name!r} ({error}): check the name and the network, or give the folder "
            "of a local copy"
        ) from error


def label_of(name: str, folder: Path) -> str:
    """The model's name as part of a file name."""
    return folder.name if Path(name).is_dir() else name.replace("/", "--")


def weights_of(folder: Path) -> Path:
    """The file with the weights, or the index of several.

    Raises:
        RecipeError: the folder has no weights.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise RecipeError(f"{folder} has no weights: it needs one of {', '.join(_WEIGHTS)}")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A config file; empty if it is missing.

    Raises:
        RecipeError: the file is not a JSON object.
    """
    path = folder / name
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"{path} is not JSON ({error}): fetch the model again") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{path} is not a JSON object: fetch the model again")
    return fields


def _is_folder(path: Path) -> bool:
    return (path / CONFIG).is_file() or (path / OPEN_CLIP_CONFIG).is_file()
