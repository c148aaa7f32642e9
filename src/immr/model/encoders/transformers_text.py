"""Text models of `transformers` as text encoders: token outputs before pooling.

Shapes: B texts, T tokens, E text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from immr.errors import RecipeError
from immr.model.encoders.specs import TextEncoderSpec
from immr.model.encoders.transformers_folder import folder_of, quiet, read_json

_CLASSES = {  # of the text half, where a model has two
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel",
}
_PADDED_IN_TRAINING = ("siglip", "siglip_text_model")  # to full length and with no mask


def spec_of(name: str) -> TextEncoderSpec:
    """What the model's config files say; weights are not read.

    Raises:
        RecipeError: there is no such model, or its config does not tell that it reads texts.
    """
    folder = folder_of(name)
    config = _text_config(folder)
    width = config.get("hidden_size")
    if not isinstance(width, int) or not isinstance(config.get("vocab_size"), int):
        raise RecipeError(
            f"{name} is no text model: its config.json has no hidden_size and vocab_size; "
            "take CLIP, SigLIP, a sentence transformer or another text encoder"
        )
    return TextEncoderSpec(folder.name if Path(name).is_dir() else name.replace("/", "--"), folder, dim=width)


class TransformersText:
    """A text model with its tokenizer; minilm (arXiv 2002.10957) is one of them."""

    def __init__(self, spec: TextEncoderSpec):
        import transformers

        quiet()
        config = read_json(spec.folder, "config.json")
        kind = str(config.get("model_type"))
        loader: Any = getattr(transformers, _CLASSES.get(kind, "AutoModel"))
        tokenizers: Any = transformers.AutoTokenizer
        self.tokenizer: Any = tokenizers.from_pretrained(str(spec.folder), local_files_only=True)
        self.network: Any = loader.from_pretrained(
            str(spec.folder), local_files_only=True, dtype=torch.float32
        )
        self.network.eval().requires_grad_(False)
        self._longest = int(_text_config(spec.folder).get("max_position_embeddings", 1_000_000))
        self._as_padded = kind in _PADDED_IN_TRAINING

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Token features (B, T, E) and the mask (B, T) of true tokens; T is at most max_tokens."""
        length = min(max_tokens, self._longest)
        batch = self.tokenizer(
            list(texts),
            padding="max_length" if self._as_padded else True,
            truncation=True,
            max_length=self._longest if self._as_padded else length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask_BT = batch["attention_mask"].bool()
        if self._as_padded:
            del batch["attention_mask"]
        tokens_BTE: Tensor = self.network(**batch).last_hidden_state
        return tokens_BTE[:, :length], mask_BT[:, :length]


def _text_config(folder: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    config = read_json(folder, "config.json")
    inner = config.get("text_config")
    config = inner if isinstance(inner, dict) else config
    try:  # with what the model type has by default: files may leave that out
        whole: dict[str, Any] = AutoConfig.for_model(**config).to_dict()
    except (KeyError, TypeError, ValueError):
        return config
    return whole
