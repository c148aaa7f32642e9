"""Fits a pretrained encoder to the training pictures before it is trained.

The statistics in batch normalization come from the pictures used for pretraining. For drawings, scans and
other pictures unlike ImageNet they are wrong in every layer, so they are re-estimated from the training
pictures (AdaBN, arXiv 1603.04779) and then stay fixed. So are the statistics that the towers standardize
with.

Shapes: B pictures, F image features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from immr.model.towers import Towers
from immr.train.inputs.batches import BatchPlan
from immr.train.inputs.sources import Inputs

_STEPS = 16


def adapt(encoder: nn.Module, towers: Towers, plan: BatchPlan, inputs: Inputs) -> None:
    """Re-estimate the encoder's batch normalization, then the statistics that the towers standardize with.

    Every rank reads the batches of `plan`; give all ranks the same plan and they get the same statistics.
    """
    with torch.no_grad():
        _estimate_normalization(encoder, plan, inputs)
        photos, pictures = list[Tensor](), list[Tensor]()
        for step, rows in zip(range(_STEPS), plan.epoch(0), strict=False):
            features = inputs(rows, step)
            photos.append(features.photos_BF)
            pictures.append(features.documents.pictures_BF[features.documents.has_picture_B])
    photos_BF, pictures_BF = torch.cat(photos), torch.cat(pictures)
    towers.query.transform.fit(photos_BF)
    if len(pictures_BF) > 1:
        towers.document.transform.fit(pictures_BF)


def _estimate_normalization(encoder: nn.Module, plan: BatchPlan, inputs: Inputs) -> None:
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    for step, rows in zip(range(_STEPS), plan.epoch(0), strict=False):
        inputs(rows, step)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
