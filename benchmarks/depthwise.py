"""What the fast weight gradient of depthwise convolutions saves in a fine-tuning step, on one CPU thread.

    python -m benchmarks.depthwise --json depthwise.json

Forward and backward pass of a pretrained encoder in channels_last with the recipes' frozen stages, CPU milliseconds
per picture, median of steps that alternate between torch's own gradient and ours.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.figures import JsonFile, write_figures
from immr.machine.allocator import keep_freed_memory, keep_large_buffers
from immr.model.encoders.by_name import load_image_encoder
from immr.recipes import Recipe, by_name
from immr.train.optimization.depthwise import use_fast_gradients

RECIPES = ("many_classes", "grocery")


def main(
    steps: int = 9,
    json_file: JsonFile = None,
) -> None:
    """CPU milliseconds per picture, of each kind of gradient."""
    torch.set_num_threads(1)
    keep_freed_memory()
    keep_large_buffers()
    found = {name: _measured(by_name(name), steps) for name in RECIPES}
    table = Table("", "torch, ms", "ours, ms", "ratio", title="forward and backward, per picture")
    for name, (torchs, ours) in found.items():
        table.add_row(name, f"{torchs:.2f}", f"{ours:.2f}", f"{torchs / ours:.2f}")
    Console().print(table)
    rows = {name: {"torch_ms": torchs, "ours_ms": ours} for name, (torchs, ours) in found.items()}
    write_figures(json_file, rows)


def _measured(recipe: Recipe, steps: int) -> tuple[float, float]:
    tuning = recipe.train.fine_tune
    assert tuning is not None
    side, pictures = tuning.image_size_px, tuning.batch_size + tuning.document_batch_size
    pixels = torch.randn(pictures, 3, side, side).contiguous(memory_format=torch.channels_last)
    networks = [_network(recipe.model.image_encoder, side, tuning.frozen_stages) for _ in range(2)]
    use_fast_gradients(networks[1])
    times: list[list[float]] = [[], []]
    for step in range(steps + 2):  # the first ones compile oneDNN's kernels
        for network, measured in zip(networks, times, strict=True):
            began = time.process_time()
            _step(network, pixels)
            if step >= 2:
                measured.append((time.process_time() - began) * 1e3 / pictures)
    torchs, ours = map(median, times)
    return torchs, ours


def _network(encoder: str, side: int, frozen_stages: int) -> nn.Module:
    network: Any = load_image_encoder(encoder, side).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for stage in network.stages()[frozen_stages:]:
        stage.requires_grad_(True)
    return network


def _step(network: nn.Module, pixels: Tensor) -> None:
    pooled, patches = network(pixels)
    (pooled.sum() + patches.square().sum()).backward()
    network.zero_grad()


if __name__ == "__main__":
    typer.run(main)
