"""A version's text encoder, as it serves: OpenVINO and `tokenizers`, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from immr.model.card import TEXT_ENCODER, TOKENIZER
from immr.model.runtime import Graph
from immr.types import FloatArray


def has_text_encoder(folder: Path) -> bool:
    """Whether a version embeds words: one whose fusion reads texts, exported by this release or a later one."""
    return (folder / TEXT_ENCODER).is_file()


class TextQueryEncoder:
    """Turns words into embeddings, with the files of a version's folder; thread-safe."""

    def __init__(self, folder: Path, threads: int = 1, at_once: int = 1):
        """Each encoding uses `threads` threads, and `at_once` encodings run in parallel; see `Graph`."""
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))  # cuts and pads as training did
        self._graph = Graph(folder / TEXT_ENCODER, threads, at_once)

    def encode(self, text: str) -> FloatArray:
        """(D,) unit vector."""
        encoded = self._tokenizer.encode(text)
        # some tokenizers find nothing in a blank text; a masked token stands for it
        inputs = {"input_ids": encoded.ids or [0], "attention_mask": encoded.attention_mask or [0]}
        arrays = {name: np.array([values], dtype=np.int64) for name, values in inputs.items()}
        row_D: FloatArray = self._graph.run_with("embedding", arrays)[0]
        return row_D
