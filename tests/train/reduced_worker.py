"""One rank of `test_parallel`: python -m tests.train.reduced_worker <encoder> <folder>.

Gradients of an encoder in bfloat16, as a replica and in shards.
"""

import sys
from pathlib import Path

import torch

from immr.model.encoders.by_name import load_image_encoder
from immr.train.classifier.collectives import sum_gradients
from immr.train.inputs.augmented_inputs import autocast
from immr.train.sharded_encoder import shard
from immr.train.world import World, world_from_environment


def gradients(name: str, sharded: bool, world: World) -> dict[str, object]:
    encoder = load_image_encoder(name, 32).requires_grad_()
    if sharded:
        shard(encoder, world, in_bfloat16=True)
    pixels_B3SS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(world.rank))
    with autocast(pixels_B3SS.device, in_bfloat16=True):
        pooled_BF, _ = encoder(pixels_B3SS)
    (pooled_BF.float() * torch.linspace(-1, 1, pooled_BF.shape[1])).sum().backward()
    sum_gradients(encoder.parameters(), world)
    found = [parameter.grad for parameter in encoder.parameters()]
    return {
        "dtypes": {gradient.dtype for gradient in found},
        "gradients": [gradient.full_tensor() if sharded else gradient for gradient in found],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, folder = sys.argv[1], Path(sys.argv[2])
    with world_from_environment() as world:
        found = {kind: gradients(name, kind == "sharded", world) for kind in ("replicated", "sharded")}
        torch.save(found, folder / f"{world.size}-{world.rank}.pt")
