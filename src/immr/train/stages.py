"""The two stages of a run: the towers on frozen features, then encoder and towers together.

Fine-tuning below untrained towers would distort the pretrained encoder (LP-FT, arXiv 2202.10054).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.distributed.checkpoint.stateful import Stateful

from immr.model.encoders.by_name import load_image_encoder, preprocessing_of
from immr.model.features.image_features import Share
from immr.model.features.pixels import PixelCache
from immr.model.features.stored_features import sampled_rows
from immr.model.model_recipe import ModelRecipe
from immr.model.towers import Towers
from immr.train import sharded_encoder
from immr.train.checkpoint import LearnedState, Parts
from immr.train.fine_tune_recipe import FineTuneRecipe
from immr.train.inputs.augmentation import AUGMENTATIONS
from immr.train.inputs.augmented_inputs import AugmentedInputs, Encoder
from immr.train.inputs.augmented_pictures import (
    AugmentedPictures,
    DeviceAugmentedPictures,
    Drawing,
    HostAugmentedPictures,
)
from immr.train.inputs.batches import BatchPlan, Partners
from immr.train.inputs.compiled_encoder import compiled, use_fast_kernels
from immr.train.inputs.features import TrainingArrays
from immr.train.inputs.pictures import Pictures
from immr.train.inputs.tower_inputs import FrozenInputs, InputSource
from immr.train.optimization.averaging import Average
from immr.train.optimization.depthwise import use_fast_gradients
from immr.train.optimization.layer_rates import encoder_groups, parameter_groups
from immr.train.optimization.schedule import learning_rate
from immr.train.train_recipe import TrainRecipe
from immr.train.world import World

_STORED_OVER_TRAINED = 1.4  # ratio of sides: most crops then need no upscaling
_COMPILED_STEPS = 5_000
"""An estimate: torch.compile takes up to a minute, and saves 3 to 10 ms of a step of lite0."""


@dataclass(frozen=True)
class Stage:
    """Some epochs of a run: what is trained, on which inputs, at which rates."""

    first_epoch: int
    epochs: int
    plan: BatchPlan
    inputs: InputSource
    network: nn.Module
    optimizer: optim.Optimizer  # a group's rate is its `share` of the stage's rate
    peak_rate: float
    warmup_share: float
    average: Average | None = None

    @property
    def last_epoch(self) -> int:
        """One past the last epoch, counted from the start of the run."""
        return self.first_epoch + self.epochs

    def rate(self, step: int) -> float:
        """The learning rate at a step; steps are counted as if all epochs of the run were of this stage."""
        return learning_rate(self._step_of_stage(step), self._steps, self.peak_rate, self.warmup_share)

    def is_warm(self, step: int) -> bool:
        """Whether the learning rate has reached its peak."""
        return self._step_of_stage(step) >= self.warmup_share * self._steps

    def step(self, rate: float) -> None:
        """One optimizer step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.optimizer.step()
        if self.average:
            self.average.update(self.network)

    def settle(self) -> None:
        """Replace the trained weights by their average, at the end of the stage."""
        if self.average:
            self.network.load_state_dict(self.average.network)

    @property
    def _steps(self) -> int:
        return self.epochs * self.plan.steps_per_epoch

    def _step_of_stage(self, step: int) -> int:
        return step - self.first_epoch * self.plan.steps_per_epoch

    def state(self) -> Parts:
        """What a checkpoint saves of the stage."""
        parts: dict[str, Stateful] = {"learned": LearnedState(self.network, self.optimizer)}
        return parts | ({"average": self.average} if self.average else {})


def heads(
    arrays: TrainingArrays, model: ModelRecipe, recipe: TrainRecipe, world: World
) -> tuple[Towers, Stage]:
    """New towers, fitted to the features of each domain, and the stage that trains them."""
    towers = Towers(model, recipe.dropout, recipe.hide_modality)
    photos_NVF, documents = arrays.photos_NVF, arrays.documents
    every_N = torch.arange(len(photos_NVF), device=photos_NVF.device)
    places_B, photos_RF = sampled_rows(photos_NVF, every_N)
    pictures_RF = sampled_rows(documents.pictures_NVF, documents.has_picture_N.nonzero().flatten())[1]
    # the pair loss learns faster from random projections; with many photos no gain was seen (docs/log.md)
    begins_plain = recipe.class_weight > 0 and arrays.has_few_photos
    weights_N = arrays.photo_weights_N[:: -(-len(arrays.photo_weights_N) // len(photos_NVF))]
    towers.to(world.device).fit(
        photos_RF,
        pictures_RF,
        weights_N[places_B].repeat_interleave(photos_NVF.shape[1]) if begins_plain else None,
        begins_plain=begins_plain,
    )
    # ranks with different processors may round differently, even to the opposite direction of a component
    towers.load_state_dict(world.agree({name: value.cpu() for name, value in towers.state_dict().items()}))
    plan = _plan(arrays, recipe, recipe, world)
    stage = Stage(
        first_epoch=0,
        epochs=_epochs(recipe, plan),
        plan=plan,
        inputs=FrozenInputs(arrays),
        network=towers,
        optimizer=_adamw(
            parameter_groups(towers.parameters(), recipe.weight_decay), recipe.learning_rate, world
        ),
        peak_rate=recipe.learning_rate,
        warmup_share=recipe.warmup_share,
    )
    return towers, stage


def fine_tuning(
    arrays: TrainingArrays,
    towers: Towers,
    run: TrainRecipe,
    cache_dir: Path,
    world: World,
    pixels_url: str = "",
) -> Stage:
    """The stage that trains the encoder together with towers that `heads` has trained.

    Batch normalization is fixed, so an example does not depend on the others in a rank's batch.

    Args:
        arrays: the training set.
        towers: trained on the frozen encoder's features.
        run: the whole recipe.
        cache_dir: decoded pictures are kept there, unless `pixels_url` is given.
        world: this rank.
        pixels_url: where shards of decoded pictures are kept.

    Raises:
        RecipeError: the encoder has no stages, or does not support the image size.
        ImageError: a photo cannot be read.
        TrainingError: shards cannot be read or written.
    """
    recipe = run.fine_tune or FineTuneRecipe()
    model = replace(towers.recipe, image_size_px=recipe.image_size_px)
    on_gpu = world.device.startswith("cuda")
    in_bfloat16 = on_gpu if recipe.autocast is None else recipe.autocast
    encoder = _encoder(model, recipe, in_bfloat16, world)
    stored_px = round(recipe.image_size_px * _STORED_OVER_TRAINED)
    pictures = _pictures(arrays, PixelCache(cache_dir, stored_px, model.framing, pixels_url), world)
    drawing = Drawing(pictures, AUGMENTATIONS[recipe.augmentation], recipe.image_size_px, run.seed)
    groups = [
        *parameter_groups(towers.parameters(), run.weight_decay),
        *encoder_groups(
            encoder, recipe.encoder_share, recipe.stage_decay, recipe.frozen_stages, recipe.weight_decay
        ),
    ]
    plan = _plan(arrays, recipe, run, world)
    run_encoder: Encoder = encoder
    if on_gpu and _is_compiled(recipe, plan):
        run_encoder = compiled(encoder, _random_pixels(plan, recipe.image_size_px, world), in_bfloat16)
    network = nn.ModuleDict({"encoder": encoder, "towers": towers})
    network.zero_grad()  # with leftover gradients torch does not load the state of a new optimizer
    return Stage(
        first_epoch=_epochs(run, _plan(arrays, run, run, world)),
        epochs=_epochs(recipe, plan),
        plan=plan,
        inputs=AugmentedInputs(arrays, _augmented_pictures(drawing, model, world), run_encoder, in_bfloat16),
        network=network,
        optimizer=_adamw(groups, recipe.learning_rate, world),
        peak_rate=recipe.learning_rate,
        warmup_share=recipe.warmup_share,
        average=Average(network, recipe.average_decay),
    )


def _encoder(model: ModelRecipe, recipe: FineTuneRecipe, in_bfloat16: bool, world: World) -> Any:
    """The pretrained encoder on this rank's device, in the form that is fastest there."""
    encoder: Any = load_image_encoder(model.image_encoder, model.image_size_px).to(world.device)
    if world.device.startswith("cuda"):
        use_fast_kernels(encoder)
    elif not in_bfloat16:
        use_fast_gradients(encoder)
    if recipe.encoder_parallel == "fsdp2":
        sharded_encoder.shard(encoder, world, in_bfloat16)
        return encoder
    return encoder.to(memory_format=torch.channels_last)  # twice as fast on a CPU


def _is_compiled(recipe: FineTuneRecipe, plan: BatchPlan) -> bool:
    if recipe.encoder_parallel == "fsdp2":
        return False
    steps = _epochs(recipe, plan) * plan.steps_per_epoch
    return steps >= _COMPILED_STEPS if recipe.compile is None else recipe.compile


def _augmented_pictures(drawing: Drawing, model: ModelRecipe, world: World) -> AugmentedPictures:
    preprocessing = preprocessing_of(model)
    if world.device.startswith("cuda"):
        return DeviceAugmentedPictures(drawing, preprocessing, torch.device(world.device))
    return HostAugmentedPictures(drawing, preprocessing)


def _adamw(groups: list[dict[str, Any]], rate: float, world: World) -> optim.AdamW:
    return optim.AdamW(groups, lr=rate, fused=True if world.device.startswith("cuda") else None)


def _epochs(recipe: TrainRecipe | FineTuneRecipe, plan: BatchPlan) -> int:
    """Those of the recipe, or more if few photos would make too few steps."""
    return max(recipe.epochs, -(-recipe.least_steps // plan.steps_per_epoch)) if recipe.epochs else 0


def _plan(
    arrays: TrainingArrays, recipe: TrainRecipe | FineTuneRecipe, run: TrainRecipe, world: World
) -> BatchPlan:
    partners = None
    if run.pair_weight > 0:
        partners = Partners.of(arrays.photo_classes_N.cpu(), arrays.document_classes_M.cpu())
    return BatchPlan(
        photos=len(arrays.query_ids),
        documents=len(arrays.document_classes_M),
        views=arrays.photos_NVF.shape[1],
        batch_size=recipe.batch_size,
        document_batch_size=recipe.document_batch_size,
        seed=run.seed,
        world=world,
        partners=partners,
    )


def _random_pixels(plan: BatchPlan, side: int, world: World) -> Tensor:
    """As many as in a step, (B, 3, S, S)."""
    count = plan.photo_batch + plan.document_batch
    return torch.randn(count, 3, side, side, device=world.device).contiguous(
        memory_format=torch.channels_last
    )


def _pictures(arrays: TrainingArrays, cache: PixelCache, world: World) -> Pictures:
    shown_M = arrays.documents.has_picture_N.numpy(force=True)
    documents = [image for image, shown in zip(arrays.document_images, shown_M, strict=True) if shown]
    hashes = {image: arrays.picture_hashes[image] for image in (*arrays.photo_images, *documents)}
    cache.compute(hashes, Share(world.rank, world.size, torch.get_num_threads()))
    world.barrier()
    count = len(arrays.photo_images)
    pixels = cache.read([hashes[image] for image in (*arrays.photo_images, *documents)])
    documents_M = np.where(shown_M, count + shown_M.cumsum() - 1, -1)
    return Pictures(pixels, np.arange(count), documents_M)
