from pathlib import Path

import pytest

from immr.errors import RecipeError
from immr.model.encoders import specs
from immr.model.encoders.specs import ImageEncoderSpec, TextEncoderSpec, package_folder


def test_the_hash_of_an_image_encoder_follows_its_weights(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"one")
    spec = ImageEncoderSpec("tiny", weights, 8, 8, 32, 127.0, 128.0)
    before = spec.hash
    assert spec.hash == before
    weights.write_bytes(b"two")
    assert spec.hash != before
    assert spec.preprocessing(224).image_size_px == 224


def test_weights_that_have_not_changed_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(specs.fingerprint, "of_file", lambda file: read.append(file) or file.read_text())
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"first")
    for _ in range(2):
        assert ImageEncoderSpec("tiny", weights, 8, 8, 32, 127.0, 128.0).hash
    assert read == [weights]
    weights.write_bytes(b"second")
    assert ImageEncoderSpec("tiny", weights, 8, 8, 32, 127.0, 128.0).hash
    assert read == [weights, weights]


def test_the_hash_of_a_text_encoder_follows_weights_and_tokenizer(tmp_path: Path) -> None:
    spec = TextEncoderSpec("tiny", tmp_path, 8)
    (tmp_path / "model.safetensors").write_bytes(b"one")
    (tmp_path / "README.md").write_text("first")
    before = spec.hash
    (tmp_path / "README.md").write_text("second")
    assert spec.hash == before
    (tmp_path / "tokenizer.json").write_text("{}")
    assert spec.hash != before


def test_a_package_is_found_without_importing_it() -> None:
    assert (package_folder("json", "json") / "decoder.py").is_file()
    with pytest.raises(RecipeError, match="run `pip install no-such-package`"):
        package_folder("no_such_package", "no-such-package")
