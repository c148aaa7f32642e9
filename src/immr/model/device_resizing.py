"""Pillow's bicubic resizing of a whole batch in two products of matrices, on any device.

Pillow rounds to whole levels between the two, this only at the end, so values differ by less than one level.

Shapes: B pictures, H, W the largest height and width among them, S the side of the resulting squares.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SHARPNESS = -0.5  # of Pillow's bicubic filter


def resized(
    pixels_B3HW: Tensor, box_B4: Tensor, size_B2: Tensor, side: int, mirrored_B: Tensor | None = None
) -> Tensor:
    """The crops at side S, float32 (B, 3, S, S), not rounded.

    Args:
        pixels_B3HW: zero outside of the pictures, each of which is in the top left corner.
        box_B4: left, top, right and bottom of the crop.
        size_B2: height and width of the pictures.
        side: S.
        mirrored_B: 1 where left and right change places.
    """
    count, _, height, width = pixels_B3HW.shape
    left_B, top_B, right_B, bottom_B = box_B4.unbind(1)
    along_x_BSW = _weights(left_B, right_B, size_B2[:, 1], width, side, mirrored_B)
    along_y_BSH = _weights(top_B, bottom_B, size_B2[:, 0], height, side, None)
    # levels and products of float16 are exact enough, and much faster on a GPU
    kind = torch.float16 if pixels_B3HW.device.type == "cuda" else torch.float32
    rows_BNS = torch.bmm(pixels_B3HW.reshape(count, 3 * height, width).to(kind), along_x_BSW.mT.to(kind))
    return torch.matmul(along_y_BSH[:, None].to(kind), rows_BNS.view(count, 3, height, side)).float()


def _weights(
    start_B: Tensor, stop_B: Tensor, length_B: Tensor, places: int, side: int, mirrored_B: Tensor | None
) -> Tensor:
    """Weights of Pillow's bicubic resizing, which is wider where it shrinks, (B, S, places)."""
    out_S = torch.arange(side, dtype=torch.float32, device=start_B.device)
    out_BS = out_S if mirrored_B is None else torch.where(mirrored_B[:, None] > 0, side - 1 - out_S, out_S)
    scale_B1 = ((stop_B - start_B) / side)[:, None]
    centre_BS1 = (start_B[:, None] + (out_BS + 0.5) * scale_B1)[:, :, None]
    at_W = torch.arange(places, dtype=torch.float32, device=start_B.device)
    distance = (at_W + 0.5 - centre_BS1).abs_().div_(scale_B1.clamp_min(1.0)[:, :, None])
    near = ((_SHARPNESS + 2) * distance - (_SHARPNESS + 3)) * distance.square() + 1
    far = _SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
    weights_BSW = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    weights_BSW = weights_BSW * (at_W < length_B[:, None, None])
    return weights_BSW / weights_BSW.sum(2, keepdim=True)
