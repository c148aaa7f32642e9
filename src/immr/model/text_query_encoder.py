"""A version's text encoder for serving: OpenVINO and `tokenizers`, without torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from immr.model.model_card import TEXT_ENCODER, TOKENIZER
from immr.model.runtime import Graph
from immr.types import FloatArray

_SHORT_TOKENS = 16
"""Shorter texts, nearly all queries, are padded to this length: a fixed-length graph is far faster."""
REMEMBERED = 4096
"""Embeddings of recent texts in memory, about 2 kB each: shoppers type the same words again."""


def has_text_encoder(folder: Path) -> bool:
    """Whether a version embeds texts: its fusion reads them, and this release or a later one exported it."""
    return (folder / TEXT_ENCODER).is_file()


class TextQueryEncoder:
    """Turns words into embeddings, with the files of a version's folder; thread-safe."""

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        at_once: int = 1,
        in_bfloat16: bool = True,
        remembered: int = REMEMBERED,
    ):
        """Load the graphs; for the other arguments, see `Graph`.

        Args:
            folder: The version's folder.
            threads: Threads per encoding.
            at_once: Encodings that run in parallel.
            in_bfloat16: Whether to compute in bfloat16 where the processor can.
            remembered: Embeddings of recent texts in memory.
        """
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))  # cuts and pads as training did
        longest = (self._tokenizer.truncation or {}).get("max_length", _SHORT_TOKENS)
        self._short = min(_SHORT_TOKENS, longest)
        file = folder / TEXT_ENCODER
        self._graph_of_short = Graph(file, threads, at_once, sizes=(1, self._short), in_bfloat16=in_bfloat16)
        self._graph = Graph(file, threads, at_once, in_bfloat16=in_bfloat16)
        self._embedding_of = lru_cache(remembered)(self._run)

    def encode(self, text: str) -> FloatArray:
        """(D,) unit vector, read-only; texts with the same tokens share it."""
        encoded = self._tokenizer.encode(text)
        return self._embedding_of(tuple(encoded.ids), tuple(encoded.attention_mask))

    def _run(self, ids: tuple[int, ...], mask: tuple[int, ...]) -> FloatArray:
        graph = self._graph_of_short if len(ids) <= self._short else self._graph
        padding = (0,) * (self._short - len(ids))
        inputs = {"input_ids": ids + padding, "attention_mask": mask + padding}
        arrays = {name: np.array([values], dtype=np.int64) for name, values in inputs.items()}
        row_D: FloatArray = graph.run_with("embedding", arrays)[0]
        row_D.setflags(write=False)
        return row_D
