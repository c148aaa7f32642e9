"""The two towers over frozen features: q = norm(T_q E(x_q)) and d = norm(fuse(T_d E(x_d), text)).

Shapes: B examples, F image features, P patches, T tokens, E text features, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from immr.model.encoders import image_encoder_spec, text_encoder_spec
from immr.model.fusion import make_fusion
from immr.model.recipe import ModelRecipe


@dataclass(frozen=True)
class DocumentBatch:
    """What the document tower reads; rows without picture or text hold zeros there."""

    pictures_BF: Tensor
    patches_BPF: Tensor | None
    has_picture_B: Tensor
    tokens_BTE: Tensor
    mask_BT: Tensor  # a row with no true token has no text


class Affine(NamedTuple):
    """x ↦ W x + b."""

    weight_DF: Tensor
    bias_D: Tensor


class Transform(nn.Module):
    """One domain's own way into the shared space: standardize, drop, project."""

    mean_F: Tensor
    deviation_F: Tensor

    def __init__(self, feature_dim: int, dim: int, dropout: float):
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(feature_dim))
        self.register_buffer("deviation_F", torch.ones(feature_dim))
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(feature_dim, dim)

    def fit(self, features_BF: Tensor) -> None:
        """Take mean and deviation from this domain's features."""
        self.mean_F.copy_(features_BF.mean(0))
        self.deviation_F.copy_(features_BF.std(0, correction=0) + 1e-3)

    def forward(self, features_BF: Tensor) -> Tensor:
        """(B, D)."""
        projected: Tensor = self.project(self.dropout((features_BF - self.mean_F) / self.deviation_F))
        return projected

    def folded(self) -> Affine:
        """The same map without dropout, as one matrix and bias: what is exported."""
        weight_DF = self.project.weight / self.deviation_F
        return Affine(weight_DF.detach(), (self.project.bias - weight_DF @ self.mean_F).detach())


class QueryTower(nn.Module):
    """A shopper's photo: q = norm(T_q E(x_q))."""

    def __init__(self, feature_dim: int, dim: int, dropout: float):
        super().__init__()
        self.transform = Transform(feature_dim, dim, dropout)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Unit rows (B, D)."""
        return F.normalize(self.transform(features_BF), dim=-1)


class DocumentTower(nn.Module):
    """An item: v = T_d E(x_d), then fusion with its text.

    A missing picture or text is replaced by a learned vector, which training makes meaningful by hiding one
    of the two at random (ours).
    """

    def __init__(self, recipe: ModelRecipe, dropout: float, hide: float):
        super().__init__()
        image, text = image_encoder_spec(recipe.image_encoder), text_encoder_spec(recipe.text_encoder)
        self.hide = hide
        self.transform = Transform(image.dim, recipe.dim, dropout)
        self.fusion = make_fusion(recipe.fusion, recipe.dim, text.dim, image.patch_dim, recipe.concepts)
        self.no_picture_D = nn.Parameter(torch.randn(recipe.dim) / recipe.dim**0.5)
        self.no_text_E = nn.Parameter(torch.randn(text.dim) / text.dim**0.5)

    def forward(self, batch: DocumentBatch) -> Tensor:
        """Unit rows (B, D)."""
        has_picture_B, has_text_B = self._present(batch)
        v_BD = torch.where(has_picture_B[:, None], self.transform(batch.pictures_BF), self.no_picture_D)
        patches_BPF = batch.patches_BPF
        if patches_BPF is not None:
            patches_BPF = patches_BPF * has_picture_B[:, None, None]
        tokens_BTE, mask_BT = self._tokens(batch, has_text_B)
        return F.normalize(self.fusion(v_BD, patches_BPF, tokens_BTE, mask_BT), dim=-1)

    def _present(self, batch: DocumentBatch) -> tuple[Tensor, Tensor]:
        has_picture_B, has_text_B = batch.has_picture_B, batch.mask_BT.any(1)
        if not (self.training and self.hide and self.fusion.uses_picture and self.fusion.uses_text):
            return has_picture_B, has_text_B
        dice_B = torch.rand(len(has_picture_B), device=has_picture_B.device)
        both_B = has_picture_B & has_text_B
        hide_picture_B = both_B & (dice_B < self.hide / 2)
        hide_text_B = both_B & (dice_B > 1 - self.hide / 2)
        return has_picture_B & ~hide_picture_B, has_text_B & ~hide_text_B

    def _tokens(self, batch: DocumentBatch, has_text_B: Tensor) -> tuple[Tensor, Tensor]:
        stand_in_BTE = self.no_text_E.expand_as(batch.tokens_BTE)
        first_BT = torch.zeros_like(batch.mask_BT)
        first_BT[:, 0] = True
        tokens_BTE = torch.where(has_text_B[:, None, None], batch.tokens_BTE, stand_in_BTE)
        return tokens_BTE, torch.where(has_text_B[:, None], batch.mask_BT, first_BT)


class Towers(nn.Module):
    """Both sides of a version; the encoders below them are frozen and kept apart."""

    def __init__(self, recipe: ModelRecipe, dropout: float = 0.0, hide: float = 0.0):
        super().__init__()
        self.recipe = recipe
        feature_dim = image_encoder_spec(recipe.image_encoder).dim
        self.query = QueryTower(feature_dim, recipe.dim, dropout)
        self.document = DocumentTower(recipe, dropout, hide)

    @classmethod
    def read(cls, recipe: ModelRecipe, path: Path) -> Towers:
        """The towers of a version, ready to encode."""
        towers = cls(recipe)
        towers.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return towers.eval()
