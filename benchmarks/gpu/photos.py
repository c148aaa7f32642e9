"""Pictures per second: fine-tuning as `Trainer` does it, and encoding as `ImageFeatures` does it.

Fine-tuning includes reading decoded pictures, copying, augmentation, both towers, all losses and the optimizers;
documents count as pictures too. Loading and compiling an encoder is in `ready_s` only. Encoders run in bfloat16
(training) or float16. Three stages of lite0 are frozen, as in the recipes; of the ViT everything is trained, from
random weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.gpu.correctness import smooth_pictures
from benchmarks.gpu.limits import photos_per_s
from benchmarks.gpu.rows import Report, waiting
from immr.machine import cores
from immr.model.encoders.by_name import (
    image_encoder_spec,
    load_image_encoder,
    preprocessing_of,
    text_encoder_spec,
)
from immr.model.encoders.frozen_features import FrozenEncoder, TorchEncoder
from immr.model.encoders.loading import Loading
from immr.model.encoders.onnx_graph import FrozenImageEncoder
from immr.model.features.document_features import DocumentArrays
from immr.model.features.image_features import ImageFeatures, Share, image_hashes
from immr.model.features.text_features import Tokens
from immr.model.model_recipe import ModelRecipe
from immr.storage import fingerprint
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.batches import Rows
from immr.train.inputs.features import TrainingArrays
from immr.train.loop import Trainer
from immr.train.optimization.layer_rates import encoder_groups
from immr.train.stages import fine_tuning
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

LITE0 = "efficientnet-lite0"
_FILES, _COPIES, _JPEG_SIZE = 512, 64, (500, 375)
_FIRST_FILES = 256
_WARM_UP, _STEPS = 8, 30
_TEXT_TOKENS, _TEXT_FEATURES = 24, 384


def run(report: Report, device: str, tiny: bool) -> None:
    """All rows, the most important ones first."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = _jpegs(folder, 6 if tiny else _FILES)
        batch, documents, side = (4, 2, 32) if tiny else (256, 32, 160)
        lite0 = FineTuneRecipe(
            epochs=1, image_size_px=side, batch_size=batch, document_batch_size=documents, compile=True
        )
        vit = replace(lite0, image_size_px=32 if tiny else 224, frozen_stages=0, batch_size=batch // 2)
        wide = replace(lite0, image_size_px=64 if tiny else 224)
        pixels_px = wide.image_size_px
        report.add("features", lambda: features(device, folder / "features", pixels_px))
        report.add(
            f"encode lite0 at {pixels_px}, pixels on the device",
            lambda: encoded_pixels(device, pixels_px, batch),
        )
        eager = replace(lite0, compile=False)  # first, so that there is a figure whatever compiling takes
        report.add(
            f"tune lite0 at {side}, not compiled", lambda: tuned(LITE0, eager, files, folder, device, 6000)
        )
        report.add(f"tune lite0 at {side}", lambda: tuned(LITE0, lite0, files, folder, device, 6000))
        report.add(
            f"encode lite0 at {pixels_px}, from JPEG",
            lambda: encoded_files(files, pixels_px, folder, 2 if tiny else _COPIES),
        )
        report.add(
            f"tune ViT-B/16 at {vit.image_size_px}",
            lambda: tuned(_vit(folder / "vit", tiny), vit, files, folder, device, 1500),
        )
        report.add(
            f"tune lite0 at {wide.image_size_px}", lambda: tuned(LITE0, wide, files, folder, device, 3500)
        )


def tuned(
    name: str, recipe: FineTuneRecipe, files: list[str], folder: Path, device: str, aim: float
) -> dict[str, Any]:
    """Steps of the second stage, one after the other."""
    started, wait = time.perf_counter(), waiting(device)
    model = ModelRecipe(
        image_encoder=name, text_encoder=_text(folder / "text"), image_size_px=recipe.image_size_px
    )
    train = TrainRecipe(views=1, fine_tune=recipe)
    arrays = _arrays(model, files, 16 * recipe.batch_size, 16 * recipe.document_batch_size)
    trainer = Trainer(arrays, model, train, World(device=device))
    trainer.stage = fine_tuning(trainer.arrays, trainer.towers, train, folder / "cache", World(device=device))
    trainer.towers.train()
    plan, losses = trainer.stage.plan, []
    warm_up, steps = (1, 2) if device == "cpu" else (_WARM_UP, _STEPS)
    wait()
    ready_s, began = time.perf_counter() - started, 0.0
    for step, rows in trainer.stage.inputs.ahead(_steps(trainer, warm_up + steps)):
        if step == warm_up:
            wait()
            began = time.perf_counter()
        losses.append(trainer._step(rows, step).means_3)
    wait()
    rate = steps * (plan.photo_batch + plan.document_batch) / (time.perf_counter() - began)
    encoder = load_image_encoder(name, recipe.image_size_px)
    encoder_groups(encoder, 1.0, 1.0, recipe.frozen_stages, 0.0)  # freezes some
    limit = photos_per_s(encoder, recipe.image_size_px, trained=True)
    return {
        "photos_per_s": rate,
        "limit_per_s": limit,
        "share": rate / limit,
        "aim_per_s": aim,
        "ready_s": ready_s,
        "is_finite": bool(torch.stack(losses).isfinite().all()),
        "batch": plan.photo_batch + plan.document_batch,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if device != "cpu" else None,
    }


def _steps(trainer: Trainer, count: int) -> Iterator[tuple[int, Rows]]:
    step, plan = 0, trainer.stage.plan
    for epoch in range(count):
        for rows in plan.epoch(epoch):
            if step == count:
                return
            yield step, rows
            step += 1


def features(device: str, folder: Path, side: int) -> dict[str, Any]:
    """Correctness: 1 − cosine of features in torch on the device and on the CPU, the largest.

    On the CPU OpenVINO computes them, or torch where OpenVINO is not installed, of pictures that Pillow resizes.
    """
    recipe = ModelRecipe(image_size_px=side)
    photos = smooth_pictures(np.random.default_rng(0), 8, (300, 260))
    own, reference = TorchEncoder(recipe, None, torch.device(device)), "openvino"
    other: FrozenEncoder
    try:
        other = FrozenImageEncoder(recipe, folder)
    except ImportError:
        other, reference = TorchEncoder(recipe, None, torch.device("cpu")), "torch"
    prepared = [own.prepare(photo) for photo in photos]
    own.encode(prepared, "pooled")  # decides on float16
    scale = preprocessing_of(recipe)
    squares = [scale.apply(photo) if reference == "openvino" else scale.square(photo) for photo in photos]
    found = torch.from_numpy(own.encode(prepared, "pooled"))
    expected = torch.from_numpy(other.encode(squares, "pooled"))
    worst = float(1 - F.cosine_similarity(found, expected).min())
    return {"difference": worst, "bound": 1e-3, "holds": worst <= 1e-3, "in_float16": own.is_half} | {
        "reference": reference
    }


def encoded_pixels(device: str, side: int, batch: int) -> dict[str, Any]:
    """Features of pixels that are on the device already."""
    recipe, wait = ModelRecipe(image_size_px=side), waiting(device)
    encoder = TorchEncoder(recipe, None, torch.device(device))
    pixels_B3SS = torch.randn(batch, 3, side, side, device=device).contiguous(
        memory_format=torch.channels_last
    )
    for _ in range(_WARM_UP if device != "cpu" else 1):
        encoder.features(pixels_B3SS, "pooled")
    wait()
    steps, began = _STEPS if device != "cpu" else 2, time.perf_counter()
    for _ in range(steps):
        encoder.features(pixels_B3SS, "pooled")
    wait()
    rate = steps * batch / (time.perf_counter() - began)
    limit = photos_per_s(load_image_encoder(LITE0, side), side, trained=False)
    return {
        "photos_per_s": rate,
        "limit_per_s": limit,
        "share": rate / limit,
        "aim_per_s": 15_000,
        "in_float16": encoder.is_half,
    }


def encoded_files(files: list[str], side: int, folder: Path, copies: int) -> dict[str, Any]:
    """Features from files, as training and indexing compute them, after the encoder was loaded for the first ones."""
    threads = cores.usable()
    hashes = _copies(files, copies, folder, threads)
    first = dict(list(hashes.items())[: min(len(files), _FIRST_FILES)])
    others = {file: key for file, key in hashes.items() if file not in first}
    features = ImageFeatures(ModelRecipe(image_size_px=side), folder / "features", loading=Loading.kept())
    seconds = []
    for some in (first, others):
        began = time.perf_counter()
        features.compute(some, ["fit"], Share(threads=threads))
        seconds.append(time.perf_counter() - began)
    return {
        "photos_per_s": len(others) / seconds[1],
        "aim_per_s": 6000,
        "ready_s": seconds[0],
        "cores": threads,
        "photos": len(others),
    }


def _copies(files: list[str], copies: int, folder: Path, threads: int) -> dict[str, str]:
    """Copies of JPEG files with their hashes, each with another one, so that each is encoded."""

    def copied(number: int) -> tuple[str, str]:
        # bytes after the end of a JPEG do not change its picture
        content = Path(files[number % len(files)]).read_bytes() + number.to_bytes(4, "big")
        copy = folder / f"copy-{number}.jpg"
        copy.write_bytes(content)
        return str(copy), fingerprint.of_bytes(content)

    with ThreadPoolExecutor(threads) as pool:
        return dict(pool.map(copied, range(copies * len(files))))


def _arrays(model: ModelRecipe, files: list[str], photos: int, documents: int) -> TrainingArrays:
    """Random features of pictures that come round again and again."""
    image, text = image_encoder_spec(model.image_encoder), text_encoder_spec(model.text_encoder)
    generator = torch.Generator().manual_seed(0)
    return TrainingArrays(
        query_ids=[f"q{number}" for number in range(photos)],
        photo_images=[files[number % len(files)] for number in range(photos)],
        photos_NVF=torch.randn(photos, 1, image.dim, generator=generator).half(),
        photo_classes_N=torch.arange(photos) % documents,
        photo_weights_N=torch.ones(photos),
        documents=DocumentArrays(
            pictures_NVF=torch.randn(documents, 1, image.dim, generator=generator).half(),
            patches_NVPF=None,
            has_picture_N=torch.ones(documents, dtype=torch.bool),
            tokens=Tokens(
                torch.randn(documents * _TEXT_TOKENS, text.dim, generator=generator).half(),
                torch.arange(documents) * _TEXT_TOKENS,
                torch.full((documents,), _TEXT_TOKENS),
                longest=_TEXT_TOKENS,
            ),
        ),
        document_classes_M=torch.arange(documents),
        document_images=[files[number % len(files)] for number in range(documents)],
        picture_hashes=image_hashes(files),
        class_count=documents,
    )


def _jpegs(folder: Path, count: int) -> list[str]:
    """Soft shapes with some noise, so that files are as large as photos of that size."""

    def drawn(number: int) -> str:
        rng, path = np.random.default_rng(number), str(folder / f"{number}.jpg")
        (picture,) = smooth_pictures(rng, 1, _JPEG_SIZE)
        noisy = np.asarray(picture, dtype=np.int16) + rng.integers(-12, 13, (*_JPEG_SIZE[::-1], 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        return path

    with ThreadPoolExecutor(cores.usable()) as pool:
        return list(pool.map(drawn, range(count)))


def _text(folder: Path) -> str:
    """A text encoder's folder without weights, which the random features of `_arrays` do not need."""
    folder.mkdir(exist_ok=True)
    config = {"model_type": "bert", "hidden_size": _TEXT_FEATURES, "vocab_size": 30_522}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def _vit(folder: Path, tiny: bool) -> str:
    """A vision transformer with random weights, as `save_pretrained` writes it."""
    import transformers

    sizes: dict[str, Any] = {}
    if tiny:
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"image_size": 32, "patch_size": 8}
    model: Any = transformers.ViTModel(transformers.ViTConfig(**sizes))
    model.save_pretrained(folder)
    scaling = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(scaling))
    return str(folder)
