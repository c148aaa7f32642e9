import json
from pathlib import Path

from immr.model.encoders.transformers_config import half_config, model_type


def write(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_half_of_a_two_sided_model_gets_its_defaults(tmp_path: Path) -> None:
    vision = {"model_type": "clip_vision_model", "hidden_size": 96}
    folder = write(tmp_path, model_type="clip", vision_config=vision)
    config = half_config(folder, "vision_config")
    assert config["hidden_size"] == 96
    assert config["patch_size"] > 0  # published files leave defaults out
    assert model_type(folder) == "clip"


def test_an_unknown_type_is_returned_unchanged(tmp_path: Path) -> None:
    folder = write(tmp_path, model_type="of tomorrow", hidden_size=7)
    assert half_config(folder, "vision_config") == {"model_type": "of tomorrow", "hidden_size": 7}
    assert model_type(write(tmp_path)) == ""
