"""A real model version that takes milliseconds: it embeds a picture by its mean colour."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from immr.evaluation.matches.rule import MATCH_RULE, MatchRule, PhotoDomain
from immr.model.model_card import QUERY_ENCODER, TEXT_ENCODER, TOKENIZER, Card
from immr.model.model_recipe import ModelRecipe
from immr.model.preprocessing import Preprocessing
from immr.model.query_encoder import OnnxQueryEncoder
from immr.packaging.version_file import VersionFile
from immr.search.ranking import RankingRecipe
from immr.settings import Settings
from immr.train.export import add_texture
from immr.types import FloatArray, Item, ModelVersion
from immr.wiring import connect

DIM = 8
SIZE_PX = 32
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (20, 40, 230),
    "yellow": (230, 220, 20),
    "with/slash ü": (200, 30, 200),
}
SHADES = {"red": "warm", "yellow": "warm", "green": "cold", "blue": "cold"}
PREPROCESSING = Preprocessing(SIZE_PX)


def version(number: int = 1) -> ModelVersion:
    return ModelVersion("immr", number, "key", "run", DIM, PREPROCESSING.hash, "a" * 64, "tiny")


def write_files(folder: Path, textures: bool = False) -> Path:
    """card.json and query_encoder.onnx: average pool, then a fixed matrix, then unit length.

    Earlier releases exported query encoders without textures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = Card(
        "tiny", ModelRecipe(image_size_px=SIZE_PX, dim=DIM, plain_dim=0), PREPROCESSING, "a" * 64, "key"
    )
    card.write(folder)
    matrix = np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)
    shape = np.array([0, 3], dtype=np.int64)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
            helper.make_node("Reshape", ["pooled", "shape"], ["colour"]),
            helper.make_node("MatMul", ["colour", "matrix"], ["raw"]),
            helper.make_node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2),
        ],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, SIZE_PX, SIZE_PX])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", DIM])],
        [numpy_helper.from_array(matrix, "matrix"), numpy_helper.from_array(shape, "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if textures:
        add_texture(model)
    onnx.save(model, str(folder / QUERY_ENCODER))
    return folder


def write_text_encoder(folder: Path) -> None:
    """A text encoder into a version's folder: a colour's name is embedded as its photo."""
    import openvino
    from openvino import opset13 as ops
    from tokenizers import Tokenizer, models, pre_tokenizers

    photos = [Image.new("RGB", (48, 40), colour) for colour in COLOURS.values()]
    table_VD = np.concatenate([np.zeros((1, DIM), np.float32), OnnxQueryEncoder(folder).encode(photos)])
    words = {word: number for number, word in enumerate(["[UNK]", *COLOURS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / TOKENIZER))
    inputs = [ops.parameter([-1, -1], np.int64) for _ in range(2)]
    rows_BTD = ops.gather(ops.constant(table_VD), inputs[0], ops.constant(0))
    embedding_BD = ops.normalize_l2(
        ops.reduce_sum(rows_BTD, ops.constant([1])), ops.constant([1]), 1e-12, "max"
    )
    for node, name in zip((*inputs, embedding_BD), ("input_ids", "attention_mask", "embedding"), strict=True):
        node.output(0).get_tensor().set_names({name})
    openvino.save_model(openvino.Model([embedding_BD], inputs), folder / TEXT_ENCODER)


def write_packaged(folder: Path, number: int = 1) -> Path:
    """The same files as in a Bento, with version.json and a rule that calls only an item's own colour exact."""
    write_files(folder)
    anywhere = PhotoDomain(0, np.zeros(DIM, dtype=np.float32), np.eye(DIM, dtype=np.float32), farthest=2.0)
    MatchRule(exact_from=0.9995, similar_from=-1.0, domain=anywhere).write(folder / MATCH_RULE)
    made = version(number)
    VersionFile(made.id, made.dim, made.preprocessing_hash, made.manifest_hash, RankingRecipe()).write(folder)
    return folder


def photo(colour: str, image_format: str = "JPEG") -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (48, 40), COLOURS[colour]).save(content, image_format)
    return content.getvalue()


def items(folder: Path) -> list[Item]:
    """One item per colour, each with its own category and a picture in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, colour in enumerate(COLOURS):
        picture = folder / f"{number}.png"
        picture.write_bytes(photo(colour, "PNG"))
        category = "Warm/Red" if colour == "red" else f"Other/{number}"
        now = datetime(2024, 5, 1, tzinfo=UTC)
        attributes = {"size": 40.0 + number, **({"shade": SHADES[colour]} if colour in SHADES else {})}
        item = Item(colour, f"a {colour} thing", "", category, str(picture), 1.0 + number, now)
        made.append(replace(item, attributes=attributes))
    return made


def build_index(settings: Settings, folder: Path, catalogue: list[Item], number: int = 1) -> None:
    """The version's collection, with the pictures' own embeddings as documents."""
    connect(settings).index.build(version(number), catalogue, embed(folder, catalogue))


def embed(folder: Path, catalogue: list[Item]) -> FloatArray:
    """Embed documents like queries."""
    pictures = [Image.open(item.image).convert("RGB") for item in catalogue]
    return OnnxQueryEncoder(folder).encode(pictures)
