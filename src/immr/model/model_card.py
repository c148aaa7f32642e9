"""The card in a version's folder: how to encode photos the way training did.

A version is a folder with `card.json`, `query_encoder.onnx` and `towers.pt`. A fine-tuned version also has
`image_encoder.pt`, one with class photos has `class_photos.npz`, and one whose fusion reads texts has
`text_encoder.xml` with its weights in `text_encoder.bin`, and `tokenizer.json`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from immr.errors import TrainingError
from immr.model.model_recipe import ModelRecipe
from immr.model.preprocessing import Preprocessing
from immr.storage.atomic import write_atomically

CARD = "card.json"
QUERY_ENCODER = "query_encoder.onnx"
TOWERS = "towers.pt"
IMAGE_ENCODER = "image_encoder.pt"
CLASS_PHOTOS = "class_photos.npz"
TEXT_ENCODER = "text_encoder.xml"
TEXT_WEIGHTS = "text_encoder.bin"
TOKENIZER = "tokenizer.json"


def tuned_weights(folder: Path) -> Path | None:
    """Weights of a version's fine-tuned encoder; None if it uses the pretrained one."""
    path = folder / IMAGE_ENCODER
    return path if path.is_file() else None


@dataclass(frozen=True)
class Card:
    """A version's recipe and origin, in plain values, so that a Bento reads it without torch."""

    recipe: str
    model: ModelRecipe
    preprocessing: Preprocessing
    manifest_hash: str
    key: str

    def write(self, folder: Path) -> None:
        """Write `card.json` into a version's folder."""
        write_atomically(folder / CARD, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Card:
        """Read `card.json` from a version's folder.

        Raises:
            TrainingError: the version is from a release whose recipe this one cannot serve.
        """
        fields = json.loads((folder / CARD).read_text())
        if fields["model"].pop("photo_weight", 0):
            raise TrainingError(
                f"{folder.name} was trained with photo_weight, which photos_per_class has replaced: train it again"
            )
        if fields["model"].get("photos_per_class"):  # an earlier release always gave the picture this weight
            fields["model"].setdefault("picture_as_photo", 0.5)
        fields["model"] = ModelRecipe(**fields["model"])
        fields["preprocessing"] = Preprocessing(**fields["preprocessing"])
        return cls(**fields)
