"""Published-model folders with tiny random weights, as `save_pretrained` and its like write them."""

from __future__ import annotations

import json
from pathlib import Path

SIDE, PATCH, WIDTH, LAYERS = 32, 8, 16, 2
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fresh", "milk", "brown", "bread"]
_TRANSFORMER = {
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
}
_CONVNEXT = {"hidden_sizes": [8, WIDTH], "depths": [1, 2], "image_size": SIDE}


def image_model(kind: str, folder: Path) -> str:
    """A `transformers` vision model; returns its folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = _TRANSFORMER | {"image_size": SIDE, "patch_size": PATCH}
    makers = {
        "clip": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes)),
        "siglip": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes)),
        "siglip2": lambda: transformers.Siglip2VisionModel(
            transformers.Siglip2VisionConfig(**_TRANSFORMER, patch_size=PATCH, num_patches=9)
        ),
        "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**sizes)),
        "dinov3": lambda: transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(**sizes, num_register_tokens=3)
        ),
        "convnext": lambda: transformers.ConvNextModel(
            transformers.ConvNextConfig(**_CONVNEXT, num_stages=2, patch_size=4)
        ),
        "convnextv2": lambda: transformers.ConvNextV2Model(
            transformers.ConvNextV2Config(**_CONVNEXT, num_stages=2, patch_size=4)
        ),
        "dinov3_convnext": lambda: transformers.DINOv3ConvNextModel(
            transformers.DINOv3ConvNextConfig(**_CONVNEXT)
        ),
    }
    makers[kind]().eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return str(folder)


def text_model(kind: str, folder: Path) -> str:
    """A `transformers` text model with a tokenizer of eight words; returns its folder."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    sizes = _TRANSFORMER | {"vocab_size": len(WORDS), "max_position_embeddings": 12, "pad_token_id": 0}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    makers = {
        "clip": lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes, **ends)),
        "siglip": lambda: transformers.SiglipTextModel(transformers.SiglipTextConfig(**sizes, **ends)),
        "siglip2": lambda: transformers.Siglip2TextModel(transformers.Siglip2TextConfig(**sizes, **ends)),
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**sizes)),
    }
    makers[kind]().eval().save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return str(folder)
