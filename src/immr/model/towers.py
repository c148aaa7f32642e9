"""The two towers on an encoder's features: q = norm(T_q E(x_q)) and d = norm(fuse(T_d E(x_d), text)).

An embedding joins this learned part (D) with a plain part (C), which is fitted without labels.

Shapes: B examples, F image features, P patches, T tokens, E text features, D learned and C plain part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from immr.errors import RecipeError, TrainingError
from immr.model.encoders.by_name import image_encoder_spec, text_encoder_spec
from immr.model.fusion import make_fusion
from immr.model.model_recipe import ModelRecipe
from immr.model.principal_components import FITTED_ROWS, begin_with, components, shares_of, some

_FEW = 32  # rows
_SAME = 1e-6  # mean variance of features, relative to their squares, of rows that differ by rounding at most


@dataclass(frozen=True)
class DocumentBatch:
    """Input of the document tower. Rows without picture or text are zero there."""

    pictures_BF: Tensor
    patches_BPF: Tensor | None
    has_picture_B: Tensor
    tokens_BTE: Tensor
    mask_BT: Tensor  # a row without a true token has no text

    def to(self, device: str) -> DocumentBatch:
        """The same on a device."""
        return DocumentBatch(
            pictures_BF=self.pictures_BF.to(device),
            patches_BPF=None if self.patches_BPF is None else self.patches_BPF.to(device),
            has_picture_B=self.has_picture_B.to(device),
            tokens_BTE=self.tokens_BTE.to(device),
            mask_BT=self.mask_BT.to(device),
        )


class Affine(NamedTuple):
    """x ↦ W x + b."""

    weight_DF: Tensor
    bias_D: Tensor


class Part(NamedTuple):
    """A part of an embedding in exported form: norm(affine) × √share."""

    affine: Affine
    share: float


class Transform(nn.Module):
    """Maps one domain (photos, or catalogue pictures) into the shared space: standardize, then project twice.

    The learned projection fits the training classes. The plain projection onto principal components (ours)
    separates items that training never saw; a cosine weighs both.
    """

    mean_F: Tensor
    deviation_F: Tensor
    basis_CF: Tensor

    def __init__(self, feature_dim: int, dim: int, dropout: float, plain_dim: int = 0):
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(feature_dim))
        self.register_buffer("deviation_F", torch.ones(feature_dim))
        self.register_buffer("basis_CF", torch.zeros(plain_dim, feature_dim))
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(feature_dim, dim)

    def fit(self, features_BF: Tensor, weights_B: Tensor | None = None) -> None:
        """Set mean and deviation from this domain's features, of any size and precision.

        Few rows may agree in a feature by chance, so their variances are drawn towards the mean of all. Rows that do
        not differ, such as that of one item, keep their direction: they are not moved to zero.
        """
        shares_B = shares_of(weights_B, features_BF)
        blocks = list(
            zip(torch.split(features_BF, FITTED_ROWS), torch.split(shares_B, FITTED_ROWS), strict=True)
        )
        mean_F = torch.stack([share @ block.double() for block, share in blocks]).sum(0)
        squares = [share @ (block.double() - mean_F).square() for block, share in blocks]
        variance_F = torch.stack(squares).sum(0)
        rows = float(1 / shares_B.square().sum())  # as many as count, if their weights differ
        drawn = max(1 - rows / _FEW, 0)  # how many rows the mean counts for
        variance_F = (rows * variance_F + drawn * variance_F.mean()) / (rows + drawn)
        if variance_F.mean() <= _SAME * mean_F.square().mean():
            variance_F, mean_F = mean_F.square().mean().expand_as(mean_F), torch.zeros_like(mean_F)
        self.mean_F.copy_(mean_F)
        self.deviation_F.copy_(variance_F.sqrt() + 1e-3)

    def standardized(self, features_BF: Tensor) -> Tensor:
        """(B, F) with zero mean and unit deviation over this domain."""
        return (features_BF - self.mean_F) / self.deviation_F

    def forward(self, features_BF: Tensor) -> Tensor:
        """The learned part, (B, D)."""
        projected: Tensor = self.project(self.dropout(self.standardized(features_BF)))
        return projected

    def plain(self, features_BF: Tensor) -> Tensor:
        """The plain part, unit rows (B, C)."""
        return F.normalize(self.standardized(features_BF) @ self.basis_CF.T, dim=-1)

    def folded(self) -> Affine:
        """The learned part without dropout as one matrix and bias, for export."""
        weight_DF = self.project.weight / self.deviation_F
        return Affine(weight_DF.detach(), (self.project.bias - weight_DF @ self.mean_F).detach())

    def folded_plain(self) -> Affine:
        """The plain part before its norm, as one matrix and bias."""
        weight_CF = self.basis_CF / self.deviation_F
        return Affine(weight_CF, -weight_CF @ self.mean_F)


class QueryTower(nn.Module):
    """A shopper's photo: q = norm(T_q E(x_q)), joined with the plain part outside training."""

    def __init__(
        self, feature_dim: int, dim: int, dropout: float, plain_dim: int = 0, plain_share: float = 0.0
    ):
        super().__init__()
        self.plain_share = plain_share
        self.transform = Transform(feature_dim, dim, dropout, plain_dim)

    def forward(self, features_BF: Tensor) -> Tensor:
        """Unit rows: in training the learned part (B, D), else the whole embedding (B, D + C)."""
        learned_BD = F.normalize(self.transform(features_BF), dim=-1)
        if self.training:
            return learned_BD
        return _joined(learned_BD, self.transform.plain(features_BF), self.plain_share)

    def parts(self) -> list[Part]:
        """The parts of the whole embedding, in order."""
        learned = Part(self.transform.folded(), 1 - self.plain_share)
        plain = Part(self.transform.folded_plain(), self.plain_share)
        return [learned, plain] if len(self.transform.basis_CF) else [learned]


class DocumentTower(nn.Module):
    """An item: v = T_d E(x_d), fused with its text, joined with the picture's plain part.

    A learned vector replaces a missing picture or text. It is trained by hiding one of the two at random
    (ours). Without a picture the plain part is zero.
    """

    def __init__(self, recipe: ModelRecipe, dropout: float, hide: float):
        super().__init__()
        image, text = image_encoder_spec(recipe.image_encoder), text_encoder_spec(recipe.text_encoder)
        self.hide = hide
        self.plain_share = recipe.plain_share
        self.transform = Transform(image.dim, recipe.dim, dropout, recipe.embedding_dim - recipe.dim)
        self.fusion = make_fusion(recipe.fusion, recipe.dim, text.dim, image.patch_dim, recipe.concepts)
        self.no_picture_D = nn.Parameter(torch.randn(recipe.dim) / recipe.dim**0.5)
        self.no_text_E = nn.Parameter(torch.randn(text.dim) / text.dim**0.5)

    def forward(self, batch: DocumentBatch) -> Tensor:
        """Unit rows: in training the learned part (B, D), else the whole embedding (B, D + C)."""
        has_picture_B, has_text_B = self._present(batch)
        v_BD = torch.where(has_picture_B[:, None], self.transform(batch.pictures_BF), self.no_picture_D)
        patches_BPF = batch.patches_BPF
        if patches_BPF is not None:
            patches_BPF = patches_BPF * has_picture_B[:, None, None]
        tokens_BTE, mask_BT = self._tokens(batch, has_text_B)
        learned_BD = F.normalize(self.fusion(v_BD, patches_BPF, tokens_BTE, mask_BT), dim=-1)
        if self.training:
            return learned_BD
        plain_BC = self.transform.plain(batch.pictures_BF) * has_picture_B[:, None]
        return _joined(learned_BD, plain_BC, self.plain_share)

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
    """Both towers of a version, without the encoders below them.

    Raises:
        RecipeError: the plain part's share is not in [0, 1).
    """

    def __init__(self, recipe: ModelRecipe, dropout: float = 0.0, hide: float = 0.0):
        super().__init__()
        if not 0 <= recipe.plain_share < 1:
            raise RecipeError(
                f"plain_share is {recipe.plain_share}, but it is a share of the cosine: choose 0 or more, and "
                "less than 1"
            )
        self.recipe = recipe
        feature_dim, plain_dim = (
            image_encoder_spec(recipe.image_encoder).dim,
            recipe.embedding_dim - recipe.dim,
        )
        self.query = QueryTower(feature_dim, recipe.dim, dropout, plain_dim, recipe.plain_share)
        self.document = DocumentTower(recipe, dropout, hide)
        if recipe.shared_projection:
            self.document.transform.project = self.query.transform.project

    def fit(
        self,
        photos_BF: Tensor,
        pictures_BF: Tensor,
        weights_B: Tensor | None = None,
        begins_plain: bool = True,
    ) -> None:
        """Set each domain's statistics, and the principal components of both domains together.

        Args:
            photos_BF: features of photos.
            pictures_BF: features of catalogue pictures; may be empty.
            weights_B: of the photos, so that the largest classes do not set the statistics alone.
            begins_plain: whether the learned projection begins as the components, too, instead of at random: training
                on few photos then starts from what the encoder sees.
        """
        domains = [
            (self.query.transform, photos_BF, shares_of(weights_B, photos_BF)),
            (self.document.transform, pictures_BF, shares_of(None, pictures_BF)),
        ]
        there = [domain for domain in domains if len(domain[1])]
        for transform, features_BF, shares_B in there:
            transform.fit(features_BF, shares_B)
        plain_dim = len(self.query.transform.basis_CF)
        if not plain_dim and not begins_plain:
            return
        parts = [
            (transform.standardized(some(rows).float()), some(shares)) for transform, rows, shares in there
        ]
        components_CF = components(parts, max(plain_dim, self.recipe.dim if begins_plain else 0))
        for transform, *_ in domains:
            begin_with(transform.basis_CF, components_CF)
            if begins_plain:
                begin_with(transform.project.weight.data, components_CF)
                transform.project.bias.data.zero_()

    @classmethod
    def pretrained(cls, recipe: ModelRecipe, pictures_NF: Tensor) -> Towers:
        """Towers that compare pictures as the pretrained encoder sees them, without training.

        Photos and catalogue pictures share their statistics and one projection, onto principal components.

        Args:
            recipe: with the fusion "image".
            pictures_NF: features of catalogue pictures.

        Raises:
            RecipeError: another fusion, which has weights to train.
        """
        recipe.check_untrained()
        towers = cls(recipe)
        towers.fit(pictures_NF, pictures_NF)
        return towers.eval()

    @classmethod
    def read(cls, recipe: ModelRecipe, path: Path) -> Towers:
        """The towers of a version, in evaluation mode.

        Raises:
            TrainingError: the file was written by another release of IMMR or for another recipe.
        """
        towers = cls(recipe)
        try:
            towers.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise TrainingError(
                f"{path} does not match its recipe, probably because another release of IMMR wrote it: train again "
                f"({str(error).splitlines()[0]})"
            ) from error
        return towers.eval()


def _joined(learned_BD: Tensor, plain_BC: Tensor, plain_share: float) -> Tensor:
    """Unit rows whose cosine is the weighted sum of the two parts' cosines."""
    parts = (1 - plain_share) ** 0.5 * learned_BD, plain_share**0.5 * plain_BC
    return F.normalize(torch.cat(parts, dim=-1), dim=-1)
