from pathlib import Path

import pytest

from immr.errors import RecipeError
from immr.model.encoders.model_folder import folder_of, is_named, label_of, read_json, weights_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    return tmp_path


def test_a_model_is_a_folder_or_owner_and_name(folder: Path) -> None:
    assert is_named(str(folder)) and is_named("openai/clip")
    assert not any(map(is_named, ("lite0", "./clip/model", "~/models", "a/b/c", "openai/", "/openai")))
    assert folder_of(str(folder)) == folder
    assert label_of(str(folder), folder) == folder.name
    assert label_of("openai/clip", folder) == "openai--clip"


def test_weights_are_found_in_order_of_preference(folder: Path) -> None:
    with pytest.raises(RecipeError, match="has no weights"):
        weights_of(folder)
    (folder / "pytorch_model.bin").touch()
    assert weights_of(folder).name == "pytorch_model.bin"
    (folder / "model.safetensors").touch()
    assert weights_of(folder).name == "model.safetensors"


@pytest.mark.parametrize(("content", "message"), [("{", "is not JSON"), ("[]", "is not a JSON object")])
def test_a_broken_config_is_named(folder: Path, content: str, message: str) -> None:
    assert read_json(folder, "missing.json") == {}
    assert read_json(folder, "config.json") == {"model_type": "clip"}
    (folder / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=message):
        read_json(folder, "config.json")
