"""Does bfloat16 change recall, and what does it save? The champion's query and text encoders in both precisions.

    IMMR_HOME=.immr/demo python -m benchmarks.precision --json precision.json

Needs a home with a champion (`make demo` leaves one) and a CPU with bfloat16; on others both columns are
float32. Times are CPU time of encoding one picture, or one of 64 texts together, on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.figures import JsonFile, write_figures
from immr.data.pictures import picture_files
from immr.datasets.named import load_dataset
from immr.model.documents import encode_documents
from immr.model.encoders.by_name import text_encoder_spec
from immr.model.encoders.transformers_text import TransformersText
from immr.model.features.text_features import document_text
from immr.model.model_card import QUERY_ENCODER, Card
from immr.model.model_recipe import ModelRecipe
from immr.model.runtime import Graph
from immr.settings import Settings
from immr.types import FloatArray, Item
from immr.wiring import connect

TEXTS = 64  # of a batch


def main(
    dataset: str = "grocery",
    split: str = "val",
    json_file: JsonFile = None,
) -> None:
    """Recall and CPU time in float32 and in bfloat16."""
    settings = Settings()
    registry = connect(settings).registry
    folder = registry.fetch(registry.get("champion"), settings.cache_dir)
    labelled = load_dataset(dataset, settings.data_mirror, settings.cache_dir)
    photos = labelled.split(split)
    row_of = {item.item_id: row for row, item in enumerate(labelled.items)}
    wanted_Q = np.array([row_of[photo.item_id] for photo in photos])
    documents_ND = encode_documents(folder, labelled.items, settings.cache_dir)
    preprocessing = Card.read(folder).preprocessing
    pixels = [
        preprocessing.apply(picture_files.load(photo.image, preprocessing.enough_px))[None]
        for photo in photos
    ]
    full_QD, full_ms = _embedded(folder, pixels, in_bfloat16=False)
    reduced_QD, reduced_ms = _embedded(folder, pixels, in_bfloat16=True)
    figures = {
        "photos": float(len(photos)),
        **_recalls("float32", full_QD @ documents_ND.T, wanted_Q),
        **_recalls("bfloat16", reduced_QD @ documents_ND.T, wanted_Q),
        "float32_ms": full_ms,
        "bfloat16_ms": reduced_ms,
        "lowest_cosine": float((full_QD * reduced_QD).sum(1).min()),
        **_texts(Card.read(folder).model, labelled.items),
    }
    table = Table("figure", "value", title="precision of the query encoder")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)
    write_figures(json_file, figures)


def _embedded(folder: Path, pixels: list[FloatArray], in_bfloat16: bool) -> tuple[FloatArray, float]:
    graph = Graph(folder / QUERY_ENCODER, sizes=(1,), in_bfloat16=in_bfloat16)
    graph.run("embedding", pixels[0])
    start = time.process_time()
    embeddings_QD = np.concatenate([graph.run("embedding", each) for each in pixels])
    return embeddings_QD, 1000 * (time.process_time() - start) / len(pixels)


def _texts(recipe: ModelRecipe, items: Sequence[Item]) -> dict[str, float]:
    """Of the token features of all items."""
    torch.set_num_threads(1)
    texts = sorted(map(document_text, items), key=len)  # a batch is padded to its longest text
    batches = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)]
    spec = text_encoder_spec(recipe.text_encoder)
    tokens, ms = [], []
    for in_bfloat16 in (False, True):
        encoder = TransformersText(spec, in_bfloat16)
        encoder.encode(batches[0], recipe.max_tokens)
        start_s = time.process_time()
        found = [encoder.encode(batch, recipe.max_tokens) for batch in batches]
        ms.append(1000 * (time.process_time() - start_s) / len(texts))
        tokens.append(torch.cat([tokens_BTE[mask_BT] for tokens_BTE, mask_BT in found]))
    cosines = torch.nn.functional.cosine_similarity(*tokens, dim=1)
    return {
        "float32_text_ms": ms[0],
        "bfloat16_text_ms": ms[1],
        "tokens_of_a_text": len(tokens[0]) / len(texts),
        "lowest_text_cosine": float(cosines.min()),
    }


def _recalls(precision: str, cosines_QN: FloatArray, wanted_Q: np.ndarray) -> dict[str, float]:
    best_QK = np.argsort(-cosines_QN, axis=1)[:, :5]
    hits_QK = best_QK == wanted_Q[:, None]
    return {
        f"{precision}_recall_at_1": float(hits_QK[:, 0].mean()),
        f"{precision}_recall_at_5": float(hits_QK.any(1).mean()),
    }


if __name__ == "__main__":
    typer.run(main)
