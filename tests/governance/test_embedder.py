from pathlib import Path

import numpy as np
from PIL import Image

from immr.governance.embedder import FrozenEmbedder
from immr.model.features.image_features import image_hashes
from immr.model.model_recipe import ModelRecipe

RECIPE = ModelRecipe(image_size_px=64)  # as in other tests, which share the exported graph


def test_rows_are_in_the_order_of_hashes_and_a_broken_picture_is_nan(tmp_path: Path) -> None:
    for name, colour in (("red", "red"), ("blue", "blue")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    hash_of = image_hashes([str(tmp_path / f"{name}.png") for name in ("red", "blue", "broken")])
    red, blue, broken = hash_of.values()
    embedder = FrozenEmbedder(RECIPE, tmp_path / "cache")
    found = embedder.embed({content: uri for uri, content in hash_of.items()}, [blue, broken, red, blue])
    assert np.isfinite(found[[0, 2, 3]]).all() and np.isnan(found[1]).all()
    assert np.array_equal(found[0], found[3]) and not np.array_equal(found[0], found[2])


def test_the_name_has_encoder_and_image_size(tmp_path: Path) -> None:
    assert FrozenEmbedder(RECIPE, tmp_path).name == f"{RECIPE.image_encoder} at 64 px"
