"""The text tower: embeds a text query like a document without a picture; and its export for serving.

A version has one if its fusion reads texts. Training hides pictures at random, so that documents without a picture
are found; a query in words is embedded as such a document (ours). Without a picture there is no plain part.

Shapes: B texts, T tokens, D whole embedding.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from immr.errors import TrainingError
from immr.model.encoders.by_name import image_encoder_spec, load_text_encoder
from immr.model.encoders.transformers_text import TransformersText
from immr.model.model_card import TEXT_ENCODER, TOKENIZER
from immr.model.model_recipe import ModelRecipe
from immr.model.runtime import openvino
from immr.model.text_query_encoder import TextQueryEncoder
from immr.model.towers import DocumentBatch, DocumentTower

SMALLEST_COSINE = 0.999  # between the exported tower and torch
_CHECKED = ("apple", "a litre of oat milk, without sugar", "Äpfel & 12 eggs", "brown bread " * 12)


class TextTower(nn.Module):
    """Token ids and their mask to unit rows (B, D)."""

    def __init__(self, recipe: ModelRecipe, document: DocumentTower, encoder: TransformersText):
        super().__init__()
        self.document = document.eval()
        self.network = encoder.network
        self._max_tokens, self._masked = recipe.max_tokens, encoder.reads_mask
        image = image_encoder_spec(recipe.image_encoder)
        self._picture_dim, self._patch_dim = image.dim, image.patch_dim

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, D); the names are those of the tokenizer's outputs."""
        mask = {"attention_mask": attention_mask} if self._masked else {}
        tokens_BTE: Tensor = self.network(input_ids=input_ids, **mask).last_hidden_state
        rows = len(input_ids)
        batch = DocumentBatch(
            pictures_BF=tokens_BTE.new_zeros(rows, self._picture_dim),
            patches_BPF=tokens_BTE.new_zeros(rows, 1, self._patch_dim)
            if self.document.fusion.needs_patches
            else None,
            has_picture_B=torch.zeros(rows, dtype=torch.bool),
            tokens_BTE=tokens_BTE[:, : self._max_tokens],
            mask_BT=attention_mask[:, : self._max_tokens].bool(),
        )
        embedding_BD: Tensor = self.document(batch)
        return embedding_BD


def export_text_encoder(recipe: ModelRecipe, document: DocumentTower, folder: Path) -> float | None:
    """Write the text tower and its tokenizer into a version's folder, for `TextQueryEncoder`.

    Returns:
        The smallest cosine between its embeddings and torch's; None if the version's fusion reads no texts.

    Raises:
        TrainingError: The exported encoder's cosine with torch is below `SMALLEST_COSINE`.
    """
    if not document.fusion.uses_text:
        return None
    encoder = load_text_encoder(recipe.text_encoder)
    tower = TextTower(recipe, document, encoder).eval()
    encoder.write_tokenizer(folder / TOKENIZER, recipe.max_tokens)
    # a text padded to the length of another, because tracing drops a mask without zeros
    ids = {name: rows_BT[:1] for name, rows_BT in encoder.ids(_CHECKED[:2], recipe.max_tokens).items()}
    with _quiet_tracing():
        graph = openvino().convert_model(tower, example_input=ids)
    graph.output(0).get_tensor().set_names({"embedding"})
    # half precision would round the fusion's smallest constants to zero: a cosine of 0.996 for short texts
    openvino().save_model(graph, folder / TEXT_ENCODER, compress_to_fp16=False)
    exported = TextQueryEncoder(folder, in_bfloat16=False)
    cosines = []
    for text in _CHECKED:
        with torch.inference_mode():
            expected_D = tower(**encoder.ids([text], recipe.max_tokens))[0].numpy()
        cosines.append(float(np.dot(expected_D, exported.encode(text))))
    if not min(cosines) >= SMALLEST_COSINE:
        raise TrainingError(
            f"the exported text encoder has a cosine of {min(cosines):.5f} with torch, less than {SMALLEST_COSINE}: "
            f"is {recipe.text_encoder} a model that OpenVINO converts?"
        )
    return min(cosines)


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Tracing warns about checks of sizes in `transformers`, whose outcome does not depend on the text."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
