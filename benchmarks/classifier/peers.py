"""Two common ways to write a classifier of many classes, which `benchmarks.classifier` compares ours with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Step = Callable[[Any, Any, int], None]
"""embeddings (B, D), labels (B,), step number → forward, backward and optimizer."""


class Size(Protocol):
    """What a peer needs to know of a case."""

    @property
    def kind(self) -> str: ...
    @property
    def classes(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def rate(self) -> float: ...


def sharded_dense(case: Size, world: Any) -> tuple[Step, float]:
    """Rows sharded and sampled, with autograd through an index into the shard and a draw over all its rows."""
    import torch
    from torch.nn import functional as F

    from immr.train.classifier import margins
    from immr.train.classifier.collectives import gather_values, sum_over_ranks
    from immr.train.classifier.sharded_classifier import Shard

    shard = Shard(case.classes, case.dim, world)
    rows_RD = torch.nn.Parameter(shard.first_rows())
    optimizer = _torch_optimizer(case, [rows_RD])
    count = len(rows_RD)
    margin = margins.CosFace(0.2)

    def step(embeddings_BD: Any, labels_B: Any, number: int) -> None:
        embeddings_AD, labels_A = shard.gather(embeddings_BD, labels_B)
        own = ((labels_A >= 0) & (labels_A < count)).nonzero().flatten()
        priority_R = torch.rand(count)
        priority_R[labels_A[own]] = 2.0
        sampled_S = priority_R.topk(int(case.rate * count)).indices.sort().values
        cosine_AS = embeddings_AD @ F.normalize(rows_RD[sampled_S], dim=-1).T
        place = (own, torch.searchsorted(sampled_S, labels_A[own]))
        hardened_T = 32 * margin(cosine_AS[place])
        logits_AS = (32 * cosine_AS).index_put(place, hardened_T)
        highest_A = gather_values(logits_AS.amax(1), world).amax(0)
        exponent_sum_A = sum_over_ranks((logits_AS - highest_A[:, None]).exp().sum(1), world)
        target_A = sum_over_ranks(torch.zeros(len(logits_AS)).index_put((own,), hardened_T), world)
        optimizer.zero_grad()
        (exponent_sum_A.log() + highest_A - target_A).mean().backward()
        optimizer.step()

    return step, 0.0


def dense(case: Size, world: Any) -> tuple[Step, float]:
    import torch
    from torch.nn import functional as F
    from torch.nn.parallel import DistributedDataParallel

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows_CD = torch.nn.Parameter(torch.randn(case.classes, case.dim))

        def forward(self, embeddings_BD: Any, labels_B: Any) -> Any:
            logits_BC = embeddings_BD @ F.normalize(self.rows_CD, dim=-1).T
            logits_BC[torch.arange(len(labels_B)), labels_B] -= 0.2
            return F.cross_entropy(32 * logits_BC, labels_B)

    module: torch.nn.Module = Rows()
    if world.size > 1:
        module = DistributedDataParallel(module, gradient_as_bucket_view=True)
    optimizer = _torch_optimizer(case, list(module.parameters()))

    def step(embeddings_BD: Any, labels_B: Any, number: int) -> None:
        optimizer.zero_grad()
        module(embeddings_BD, labels_B).backward()
        optimizer.step()

    return step, 0.0


def _torch_optimizer(case: Size, rows: list[Any]) -> Any:
    import torch

    if case.kind.endswith("adamw"):
        return torch.optim.AdamW(rows, lr=0.01)
    return torch.optim.SGD(rows, lr=0.01, momentum=0.9)
