"""Text models of `transformers` as text encoders: token features before pooling.

Shapes: B texts, T tokens, E text features.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from immr.errors import RecipeError
from immr.model.encoders.half_precision import agree
from immr.model.encoders.model_folder import folder_of, label_of
from immr.model.encoders.specs import TextEncoderSpec
from immr.model.encoders.transformers_config import half_config, hide_progress_bars, model_type

_TEXT_CLASSES = {  # of the text half; other model types load with AutoModel
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel",
    "siglip2": "Siglip2TextModel",
    "siglip2_text_model": "Siglip2TextModel",
}
_log = logging.getLogger(__name__)
_PADDED_IN_TRAINING = ("siglip", "siglip_text_model", "siglip2", "siglip2_text_model")  # full length, no mask


def spec_of(name: str) -> TextEncoderSpec:
    """The encoder's spec, from the config files alone.

    Raises:
        RecipeError: there is no such model, or its config is not that of a text model.
    """
    folder = folder_of(name)
    config = half_config(folder, "text_config")
    width = config.get("hidden_size")
    if not isinstance(width, int) or not isinstance(config.get("vocab_size"), int):
        raise RecipeError(
            f"{name} is not a text model: its config.json has no hidden_size and vocab_size; choose CLIP, "
            "SigLIP, a sentence transformer or another text encoder"
        )
    return TextEncoderSpec(label_of(name, folder), folder, dim=width)


def _has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; OpenVINO also counts those that emulate it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class TransformersText:
    """A frozen text model with its tokenizer."""

    def __init__(self, spec: TextEncoderSpec, in_bfloat16: bool = True):
        """Load the model.

        Args:
            spec: of the model.
            in_bfloat16: on a CPU that has instructions for it (benchmarks/precision.py), unless the first batch
                differs from float32.
        """
        import transformers

        hide_progress_bars()
        kind = model_type(spec.folder)
        loader: Any = getattr(transformers, _TEXT_CLASSES.get(kind, "AutoModel"))
        tokenizers: Any = transformers.AutoTokenizer
        self.tokenizer: Any = tokenizers.from_pretrained(str(spec.folder), local_files_only=True)
        self.network: Any = loader.from_pretrained(
            str(spec.folder), local_files_only=True, dtype=torch.float32
        )
        self.network.eval().requires_grad_(False)
        self._max_length = int(
            half_config(spec.folder, "text_config").get("max_position_embeddings", 1_000_000)
        )
        self._padded = kind in _PADDED_IN_TRAINING
        # None until the first batch decides
        self._in_bfloat16 = None if in_bfloat16 and _has_bfloat16() else False

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Token features (B, T, E) and the mask (B, T) of true tokens, on the CPU; T is at most `max_tokens`.

        Computed on a GPU if there is one.
        """
        batch = self.ids(texts, max_tokens)
        mask_BT = batch["attention_mask"].bool()
        if not self.reads_mask:
            del batch["attention_mask"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network.to(device)
        inputs = {name: ids_BT.to(device) for name, ids_BT in batch.items()}
        return self._tokens(inputs, mask_BT, device)[:, :max_tokens], mask_BT[:, :max_tokens]

    def _tokens(self, inputs: dict[str, Tensor], mask_BT: Tensor, device: str) -> Tensor:
        """(B, T, E), float32, on the CPU."""
        if device != "cpu" or self._in_bfloat16 is False:
            return self._run(inputs, torch.float32)
        reduced_BTE = self._run(inputs, torch.bfloat16)
        if self._in_bfloat16 is None:
            whole_BTE = self._run(inputs, torch.float32)
            self._in_bfloat16 = agree(reduced_BTE[mask_BT], whole_BTE[mask_BT])
            if not self._in_bfloat16:
                _log.warning("texts are computed in float32: this encoder's features differ in bfloat16")
                return whole_BTE
        return reduced_BTE

    def _run(self, inputs: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            tokens_BTE: Tensor = self.network(**inputs).last_hidden_state
        return tokens_BTE.float().cpu()

    @property
    def reads_mask(self) -> bool:
        """Whether the network takes the mask; one trained on padded texts does not."""
        return not self._padded

    def ids(self, texts: Sequence[str], max_tokens: int) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, (B, T) each."""
        batch = self.tokenizer(
            list(texts),
            padding="max_length" if self._padded else True,
            truncation=True,
            max_length=self._length(max_tokens),
            return_attention_mask=True,
            return_token_type_ids=False,
            return_tensors="pt",
        )
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    def write_tokenizer(self, path: Path, max_tokens: int) -> None:
        """Write a file from which `tokenizers` alone makes the ids of one text."""
        from tokenizers import Tokenizer

        length = self._length(max_tokens)
        tokenizer = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        tokenizer.enable_truncation(length)
        if self._padded:
            tokenizer.enable_padding(
                pad_id=self.tokenizer.pad_token_id, pad_token=self.tokenizer.pad_token, length=length
            )
        else:
            tokenizer.no_padding()
        tokenizer.save(str(path))

    def _length(self, max_tokens: int) -> int:
        return self._max_length if self._padded else min(max_tokens, self._max_length)
