"""The photo–document loss: a photo should be nearer to a document of its class than to the batch's others.

It compares embeddings with each other instead of with classifier rows, which are random at first and rarely
visited. So it also works from the first step, for classes with few photos, and for documents of new items.

Shapes: P photos and M documents of one rank, A and N those of all ranks, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from immr.train.classifier.collectives import gather_rows, sum_over_ranks
from immr.train.world import World

SCALE = 1 / 0.07  # the first temperature of CLIP (arXiv 2103.00020)


def pair_loss(
    photos_PD: Tensor, documents_MD: Tensor, photo_classes_P: Tensor, document_classes_M: Tensor, world: World
) -> Tensor:
    """Symmetric InfoNCE over the documents and photos of all ranks; a scalar, equal on all ranks.

    All documents of a photo's class count as right, as in supervised contrastive learning (arXiv 2004.11362).
    Photos without a right document in the batch, and documents without a right photo, are skipped.

    Args:
        photos_PD: unit rows; every rank has the same P.
        documents_MD: unit rows; every rank has the same M.
        photo_classes_P: class ids.
        document_classes_M: class ids.
        world: the ranks that call this together.
    """
    towards_documents = _sums(photos_PD, photo_classes_P, documents_MD, document_classes_M, world)
    towards_photos = _sums(documents_MD, document_classes_M, photos_PD, photo_classes_P, world)
    return towards_documents + towards_photos


def _sums(
    own_BD: Tensor, own_classes_B: Tensor, others_BD: Tensor, classes_B: Tensor, world: World
) -> Tensor:
    others_AD, classes_A = gather_rows(others_BD, world), gather_rows(classes_B, world)
    logits_BA = SCALE * own_BD @ others_AD.T
    right_BA = own_classes_B[:, None] == classes_A
    has_right_B = right_BA.any(1)
    # a row without a right one takes all for right, so that it stays finite until it is left out
    right_B = logits_BA.masked_fill(~right_BA & has_right_B[:, None], -torch.inf).logsumexp(1)
    total = torch.where(has_right_B, logits_BA.logsumexp(1) - right_B, 0.0).sum()
    sums_2 = sum_over_ranks(torch.stack([total, has_right_B.sum().to(total)]), world)
    return sums_2[0] / sums_2[1].detach().clamp_min(1)
