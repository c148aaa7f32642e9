"""A version's folder with untrained towers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from immr.model.encoders.by_name import image_encoder_spec, preprocessing_of
from immr.model.model_card import TOWERS, Card
from immr.model.model_recipe import FusionName
from immr.model.towers import Towers
from tests.support.tiny_training_set import MODEL


def write_untrained(folder: Path, fusion: FusionName) -> Towers:
    """Write card and towers of a version to `folder`; returns the towers."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(MODEL, fusion=fusion)
    towers = Towers(recipe).eval()
    feature_dim = image_encoder_spec(recipe.image_encoder).dim
    towers.fit(torch.rand(40, feature_dim), torch.rand(20, feature_dim))
    folder.mkdir(exist_ok=True)
    torch.save(towers.state_dict(), folder / TOWERS)
    Card("tiny", recipe, preprocessing_of(recipe), manifest_hash="m", key="k").write(folder)
    return towers
