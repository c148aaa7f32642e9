"""Memory and disk for training, from the numbers of photos and items. Checked by `python -m benchmarks.shop`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from immr.data.training_set import TrainingSet
from immr.machine.capacity import GIB, Need
from immr.machine.wording import counted
from immr.model.encoders.by_name import image_encoder_spec, text_encoder_spec
from immr.model.features.document_features import fusion_of
from immr.model.features.image_features import ImageFeatures
from immr.model.features.text_features import TextFeatures, document_text
from immr.model.features.views import view_names
from immr.model.model_recipe import ModelRecipe
from immr.train.train_recipe import TrainRecipe
from immr.types import Item

_LAUNCHER, _RANK = 0.6 * GIB, 0.7 * GIB  # Python with torch
_ENCODER = 0.6 * GIB  # fine-tuning holds it with its gradients
_TEXT_ENCODER = 0.25 * GIB  # its library and a batch of texts; the weights come on top
_PHOTO, _ITEM = 700, 3_000  # bytes of a row as Python objects
_HALF, _FLOAT = 2, 4
_LETTERS_PER_TOKEN = 4
_SAMPLED_TEXTS = 1_000
_TEMPORARIES = 4  # of the logits of one step
_ROWS = 3  # of the classifier: weights, gradient, optimizer


def need(photos: int, items: Sequence[Item], model: ModelRecipe, train: TrainRecipe) -> Need:
    """Estimate the memory and disk for training. Features are mapped from the cache, so they need disk only."""
    image, text = image_encoder_spec(model.image_encoder), text_encoder_spec(model.text_encoder)
    fusion, count = fusion_of(model), len(items)
    per_picture = image.dim + (49 * image.patch_dim if fusion.needs_patches else 0)
    per_text = _tokens(items, model.max_tokens) * text.dim if fusion.uses_text else 0
    frozen = min(photos, train.frozen_photos or photos)
    features = _HALF * (train.views * (frozen * image.dim + count * per_picture) + count * per_text)
    batch = (train.batch_size + train.document_batch_size) * train.processes
    classifier = _FLOAT * count * (_ROWS * model.dim + _TEMPORARIES * batch * train.rate_of(count))
    objects = train.processes * (_PHOTO * photos + _ITEM * count)
    encoders = _ENCODER if train.fine_tune else 0.0
    if fusion.uses_text:
        encoders += _TEXT_ENCODER + text.weights_bytes
    memory = _LAUNCHER + train.processes * (_RANK + encoders) + objects + classifier
    return Need(
        memory,
        features,  # in the cache
        f"{counted(photos, 'photo')} and {counted(count, 'item')} with {counted(train.processes, 'process')}",
        "lower the recipe's train.negative_rate, train.views or train.processes",
    )


def cached_bytes(training_set: TrainingSet, model: ModelRecipe, train: TrainRecipe, cache_dir: Path) -> float:
    """How much of the disk that `need` counts is taken by the cache already; without features of patches."""
    images, views, items = ImageFeatures(model, cache_dir), view_names(train.views), training_set.items
    hash_of = training_set.image_hashes()
    known = images.known(list(hash_of.values()), views)
    photos, pictures = (
        sum(hash_of.get(row.image) in known for row in rows) for rows in (training_set.queries, items)
    )
    found: float = _HALF * images.dim * len(views) * (min(photos, train.frozen_photos or photos) + pictures)
    if fusion_of(model).uses_text:
        features, texts = TextFeatures(model, cache_dir), [document_text(item) for item in items]
        found += _HALF * features.dim * _tokens(items, model.max_tokens) * features.known(texts)
    return found


def _tokens(items: Sequence[Item], most: int) -> float:
    """Mean number of tokens of a text, from its letters."""
    some = items[:: -(-len(items) // _SAMPLED_TEXTS)] if items else ()
    return sum(min(most, len(document_text(item)) / _LETTERS_PER_TOKEN + 2) for item in some) / max(
        len(some), 1
    )
