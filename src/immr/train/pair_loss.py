"""The pair loss: a photo should be nearer to a document of its class, and to its photos, than to all others.

It compares embeddings with each other instead of with classifier rows, which are random at first and rarely
visited. So it also works from the first step, for classes with few photos, and for documents of new items.

Shapes: P photos and M documents of one rank, A those of all ranks, Q remembered documents, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from immr.train.classifier.collectives import gather_rows, sum_over_ranks
from immr.train.world import World

SCALE = 1 / 0.07  # the first temperature of CLIP (arXiv 2103.00020)
_NOBODY = -1  # class of an empty place
_NEVER = -1e4  # logit of what does not count; −inf has no gradient where nothing else counts


class DocumentMemory:
    """Embeddings of the last documents of all ranks, as further negatives (cross-batch memory, arXiv 1912.06798).

    A batch has few documents, most of them nothing like the photo; among thousands there are some that look like it.
    """

    def __init__(self, size: int, dim: int, device: str | None = None):
        self.rows_QD = torch.zeros(size, dim, device=device)
        self.classes_Q = torch.full((size,), _NOBODY, device=device)
        self._next = torch.zeros((), dtype=torch.long, device=device)

    def remember(self, documents_AD: Tensor, classes_A: Tensor) -> None:
        """Replace the oldest documents by these; every rank must remember the same."""
        size = len(self.classes_Q)
        latest_AD, latest_A = documents_AD.detach()[-size:], classes_A[-size:]
        places_A = (self._next + torch.arange(len(latest_A), device=latest_A.device)) % size
        self.rows_QD[places_A] = latest_AD
        self.classes_Q[places_A] = latest_A
        self._next.copy_((self._next + len(latest_A)) % size)

    def state_dict(self) -> dict[str, Any]:
        """The remembered documents, for a checkpoint."""
        return {"rows": self.rows_QD, "classes": self.classes_Q, "next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.rows_QD.copy_(state_dict["rows"])
        self.classes_Q.copy_(state_dict["classes"])
        self._next.copy_(state_dict["next"])


def pair_loss(
    photos_PD: Tensor,
    documents_MD: Tensor,
    photo_classes_P: Tensor,
    document_classes_M: Tensor,
    world: World,
    photo_weight: float = 0.0,
    memory: DocumentMemory | None = None,
) -> Tensor:
    """InfoNCE from photos to documents, from documents to photos, and between photos; equal on all ranks.

    All candidates of the right class count as right, as in supervised contrastive learning (arXiv 2004.11362).
    A photo or document without a right candidate is skipped.

    Args:
        photos_PD: unit rows; every rank has the same P.
        documents_MD: unit rows; every rank has the same M.
        photo_classes_P: class ids.
        document_classes_M: class ids.
        world: the ranks that call this together.
        photo_weight: of the part between photos.
        memory: further wrong documents for the photos.
    """
    photos_AD, photo_classes_A = gather_rows(photos_PD, world), gather_rows(photo_classes_P, world)
    documents_AD, document_classes_A = (
        gather_rows(documents_MD, world),
        gather_rows(document_classes_M, world),
    )
    right_PA = photo_classes_P[:, None] == document_classes_A
    towards_documents = SCALE * photos_PD @ documents_AD.T
    wrong_P = _remembered(photos_PD, photo_classes_P, memory)
    total = _info_nce(towards_documents, right_PA, world, wrong_P)
    towards_photos = SCALE * documents_MD @ photos_AD.T
    total = total + _info_nce(towards_photos, document_classes_M[:, None] == photo_classes_A, world)
    if photo_weight:
        own_P = world.rank * len(photos_PD) + torch.arange(len(photos_PD), device=photos_PD.device)
        between = (SCALE * photos_PD @ photos_AD.T).scatter(1, own_P[:, None], _NEVER)
        classmate_PA = (photo_classes_P[:, None] == photo_classes_A).scatter(1, own_P[:, None], False)
        total = total + photo_weight * _info_nce(between, classmate_PA, world)
    if memory:
        memory.remember(documents_AD, document_classes_A)
    return total


def _remembered(photos_PD: Tensor, classes_P: Tensor, memory: DocumentMemory | None) -> Tensor | None:
    """(P,) log of the summed similarities to remembered documents of other classes."""
    if memory is None:
        return None
    other_PQ = (memory.classes_Q != _NOBODY) & (memory.classes_Q != classes_P[:, None])
    logits_PQ = SCALE * photos_PD @ memory.rows_QD.clone().T  # backward needs what `remember` replaces
    return logits_PQ.masked_fill(~other_PQ, _NEVER).logsumexp(1)


def _info_nce(
    logits_BA: Tensor, right_BA: Tensor, world: World, more_wrong_B: Tensor | None = None
) -> Tensor:
    """Mean of −log softmax over the rows of all ranks that have a right column."""
    has_right_B = right_BA.any(1)
    # a row without a right one takes all for right, so that it stays finite until it is left out
    right_B = logits_BA.masked_fill(~right_BA & has_right_B[:, None], -torch.inf).logsumexp(1)
    all_B = logits_BA.logsumexp(1)
    if more_wrong_B is not None:
        all_B = torch.logaddexp(all_B, more_wrong_B)
    total = torch.where(has_right_B, all_B - right_B, 0.0).sum()
    sums_2 = sum_over_ranks(torch.stack([total, has_right_B.sum().to(total)]), world)
    return sums_2[0] / sums_2[1].detach().clamp_min(1)
