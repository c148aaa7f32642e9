"""Two ways to train a classifier of many classes on a GPU, which `benchmarks.gpu` compares ours with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Step = Callable[[Tensor, Tensor, int], object]
_SCALE, _MARGIN, _RATE, _MOMENTUM = 32.0, 0.2, 0.01, 0.9


def partial_fc(classes: int, dim: int, sampled: int, device: str) -> Step:
    """Partial FC v2 on one GPU (arXiv 2203.15565), after insightface's recognition/arcface_torch/partial_fc_v2.py."""
    rows_CD = torch.normal(0, 0.01, (classes, dim), device=device)
    momentum_CD = torch.zeros_like(rows_CD)

    def step(embeddings_BD: Tensor, labels_B: Tensor, number: int) -> None:
        positive = torch.unique(labels_B, sorted=True)
        priority_C = torch.rand(classes, device=device)
        priority_C[positive] = 2.0
        index_S = priority_C.topk(max(sampled, len(positive))).indices.sort().values
        target_B = torch.searchsorted(index_S, labels_B)
        rows_SD = torch.nn.Parameter(rows_CD[index_S])
        optimizer = torch.optim.SGD([rows_SD], lr=_RATE, momentum=_MOMENTUM)
        optimizer.state[rows_SD]["momentum_buffer"] = momentum_CD[index_S]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            cosine_BS = F.linear(F.normalize(embeddings_BD), F.normalize(rows_SD))
        cosine_BS = cosine_BS.float().clamp(-1, 1)
        margin_BS = torch.zeros_like(cosine_BS).scatter_(1, target_B[:, None], _MARGIN)
        F.cross_entropy(_SCALE * (cosine_BS - margin_BS), target_B).backward()
        optimizer.step()
        rows_CD[index_S] = rows_SD.detach()
        momentum_CD[index_S] = optimizer.state[rows_SD]["momentum_buffer"]

    return step


def plain(classes: int, dim: int, sampled: int, device: str) -> Step:
    """Gather, softmax in bfloat16, momentum, scatter."""
    rows_CD = torch.normal(0, 0.01, (classes, dim), device=device)
    momentum_CD = torch.zeros_like(rows_CD)

    def step(embeddings_BD: Tensor, labels_B: Tensor, number: int) -> None:
        negative_N = torch.randint(classes, (sampled - len(labels_B),), device=device)
        index_S = torch.cat([labels_B, negative_N])
        rows_SD = rows_CD[index_S].requires_grad_()
        unit_SD = F.normalize(rows_SD, dim=-1)
        logits_BS = _SCALE * (embeddings_BD.bfloat16() @ unit_SD.bfloat16().T)
        F.cross_entropy(logits_BS.float(), torch.arange(len(labels_B), device=device)).backward()
        assert rows_SD.grad is not None
        moved_SD = momentum_CD[index_S].mul_(_MOMENTUM).add_(rows_SD.grad)
        momentum_CD[index_S] = moved_SD
        rows_CD[index_S] = rows_SD.detach() - _RATE * moved_SD

    return step
