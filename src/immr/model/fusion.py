"""Fusion: picture and text become one document vector. One interface, one small module for each fusion.

Shapes: B documents, D embedding, P patches, F patch features, T tokens, E text features, K concepts.

Every fusion takes the picture `v_BD`, the patches `patches_BPF` (only if `needs_patches`), the tokens
`tokens_BTE` and their mask `mask_BT` (at least one true per row), and returns (B, D), not normalized.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from immr.model.model_recipe import FusionName

_EPSILON = 1e-6


class Fusion(nn.Module, ABC):
    """The interface. Inputs that a fusion does not use may hold anything."""

    uses_picture = True
    uses_text = True
    needs_patches = False

    @abstractmethod
    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D), not normalized."""


class ImageFusion(Fusion):
    """The picture alone: d = v."""

    uses_text = False

    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D)."""
        return v_BD


class TextFusion(Fusion):
    """The text alone: d = W mean(t)."""

    uses_picture = False

    def __init__(self, dim: int, text_dim: int):
        super().__init__()
        self.project = nn.Linear(text_dim, dim)

    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D)."""
        projected: Tensor = self.project(_mean_token(tokens_BTE, mask_BT))
        return projected


class ConcatFusion(Fusion):
    """d = W [v; mean(t)]: the plain baseline."""

    def __init__(self, dim: int, text_dim: int):
        super().__init__()
        self.project = nn.Linear(dim + text_dim, dim)

    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D)."""
        joined: Tensor = self.project(torch.cat([v_BD, _mean_token(tokens_BTE, mask_BT)], dim=-1))
        return joined


class GatedFusion(Fusion):
    """z = W mean(t); d = v + σ(W₇[v; z]) ⊙ z: concept fusion's gate without its concepts (ours)."""

    def __init__(self, dim: int, text_dim: int):
        super().__init__()
        self.project = nn.Linear(text_dim, dim)
        self.gate = Gate(dim)

    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D)."""
        fused: Tensor = self.gate(v_BD, self.project(_mean_token(tokens_BTE, mask_BT)))
        return fused


class ConceptFusion(Fusion):
    """Concept-aware fusion (arXiv 2305.03972): the picture attends to concepts that are read from the text.

    C = softmax(M W₁ (t W₂)ᵀ/√d) t W₃, z = softmax(v W₄ (C W₅)ᵀ/√d) C W₆, d = v + σ(W₇[v; z]) ⊙ z.

    With `compete`, C is read as in slot attention instead; see `ConceptReader`.
    """

    def __init__(self, dim: int, text_dim: int, concepts: int, compete: bool = False):
        super().__init__()
        self.read = ConceptReader(dim, text_dim, concepts, compete)
        self.w4 = nn.Linear(dim, dim, bias=False)
        self.w5 = nn.Linear(dim, dim, bias=False)
        self.w6 = nn.Linear(dim, dim, bias=False)
        self.gate = Gate(dim)

    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D)."""
        concepts_BKD = self.read(tokens_BTE, mask_BT)
        z_B1D = attend(self.w4(v_BD)[:, None], self.w5(concepts_BKD), self.w6(concepts_BKD))
        fused: Tensor = self.gate(v_BD, z_B1D[:, 0])
        return fused


class ConceptPatchFusion(Fusion):
    """Concepts read from the text attend to the picture's patches (ours, for the ablation).

    C as in `ConceptFusion`, Z = softmax(C W₄ (p W₅)ᵀ/√d) p W₆ over patches p, z = mean of Z over concepts.
    """

    needs_patches = True

    def __init__(self, dim: int, text_dim: int, patch_dim: int, concepts: int):
        super().__init__()
        self.read = ConceptReader(dim, text_dim, concepts)
        self.w4 = nn.Linear(dim, dim, bias=False)
        self.w5 = nn.Linear(patch_dim, dim, bias=False)
        self.w6 = nn.Linear(patch_dim, dim, bias=False)
        self.gate = Gate(dim)

    def forward(
        self, v_BD: Tensor, patches_BPF: Tensor | None, tokens_BTE: Tensor, mask_BT: Tensor
    ) -> Tensor:
        """(B, D)."""
        assert patches_BPF is not None, "a fusion with needs_patches is given patches"
        concepts_BKD = self.read(tokens_BTE, mask_BT)
        seen_BKD = attend(self.w4(concepts_BKD), self.w5(patches_BPF), self.w6(patches_BPF))
        fused: Tensor = self.gate(v_BD, seen_BKD.mean(1))
        return fused


class ConceptReader(nn.Module):
    """A learned memory M (K, D) reads the tokens: C = softmax(M W₁ (t W₂)ᵀ/√d) t W₃.

    The softmax is over tokens, so nothing keeps two concepts from reading the same ones. With `compete` it is
    over concepts, and each concept's weights are then normalized over tokens, as in slot attention (arXiv
    2006.15055): concepts divide each token among themselves.

    Computed as softmax((M W₁ W₂ᵀ) tᵀ/√d) t, then W₃: the same numbers without projecting each token, which
    costs several times more, since there are more tokens than concepts.
    """

    def __init__(self, dim: int, text_dim: int, concepts: int, compete: bool = False):
        super().__init__()
        self.compete = compete
        self.memory_KD = nn.Parameter(torch.randn(concepts, dim) / math.sqrt(dim))
        self.w1 = nn.Linear(dim, dim, bias=False)
        self.w2 = nn.Linear(text_dim, dim, bias=False)
        self.w3 = nn.Linear(text_dim, dim, bias=False)

    def forward(self, tokens_BTE: Tensor, mask_BT: Tensor) -> Tensor:
        """Concepts (B, K, D)."""
        query_KE = self.w1(self.memory_KD) @ self.w2.weight / math.sqrt(len(self.w2.weight))
        logits_BKT = query_KE @ tokens_BTE.transpose(1, 2)
        weigh = _shared_out if self.compete else _attention
        concepts_BKD: Tensor = self.w3(weigh(logits_BKT, mask_BT) @ tokens_BTE)
        return concepts_BKD


class Gate(nn.Module):
    """Adds the useful part of z to v: v + σ(W₇[v; z]) ⊙ z."""

    def __init__(self, dim: int):
        super().__init__()
        self.w7 = nn.Linear(2 * dim, dim)

    def forward(self, v_BD: Tensor, z_BD: Tensor) -> Tensor:
        """(B, D)."""
        return v_BD + torch.sigmoid(self.w7(torch.cat([v_BD, z_BD], dim=-1))) * z_BD


def make_fusion(name: FusionName, dim: int, text_dim: int, patch_dim: int, concepts: int) -> Fusion:
    """The fusion of that name."""
    match name:
        case "image":
            return ImageFusion()
        case "text":
            return TextFusion(dim, text_dim)
        case "concat":
            return ConcatFusion(dim, text_dim)
        case "gated":
            return GatedFusion(dim, text_dim)
        case "concept":
            return ConceptFusion(dim, text_dim, concepts)
        case "concept_slots":
            return ConceptFusion(dim, text_dim, concepts, compete=True)
        case "concept_patch":
            return ConceptPatchFusion(dim, text_dim, patch_dim, concepts)


def attend(queries_BKD: Tensor, keys_BTD: Tensor, values_BTD: Tensor) -> Tensor:
    """softmax(queries keysᵀ / √D) values, (B, K, D)."""
    logits_BKT = queries_BKD @ keys_BTD.transpose(1, 2) / math.sqrt(queries_BKD.shape[-1])
    return logits_BKT.softmax(-1) @ values_BTD


def _attention(logits_BKT: Tensor, mask_BT: Tensor) -> Tensor:
    return logits_BKT.masked_fill(~mask_BT[:, None], -math.inf).softmax(-1)


def _shared_out(logits_BKT: Tensor, mask_BT: Tensor) -> Tensor:
    weights_BKT = logits_BKT.softmax(1) * mask_BT[:, None]
    return weights_BKT / (weights_BKT.sum(-1, keepdim=True) + _EPSILON)


def _mean_token(tokens_BTE: Tensor, mask_BT: Tensor) -> Tensor:
    weights_BT1 = mask_BT[..., None].to(tokens_BTE.dtype)
    return (tokens_BTE * weights_BT1).sum(1) / weights_BT1.sum(1)
