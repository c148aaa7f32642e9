"""Three ways to train a classifier of many classes on a GPU, which `benchmarks.gpu` compares ours with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Step = Callable[[Tensor, Tensor, int], object]
_SCALE, _MARGIN, _RATE, _MOMENTUM = 32.0, 0.2, 0.01, 0.9


def partial_fc_v2(classes: int, dim: int, sampled: int, device: str) -> Step:
    """Partial FC v2 on one GPU (arXiv 2203.15565), step by step as insightface's partial_fc_v2.py at 531cb1e.

    It draws the sample on the host, and the gradient and SGD go over all rows.
    """
    rows_CD = torch.nn.Parameter(torch.normal(0, 0.01, (classes, dim), device=device))
    optimizer = torch.optim.SGD([rows_CD], lr=_RATE, momentum=_MOMENTUM)

    def step(embeddings_BD: Tensor, labels_B: Tensor, number: int) -> None:
        index_S, target_B = _sample(labels_B, torch.rand(classes).to(device), sampled)
        _loss(embeddings_BD, rows_CD[index_S], target_B).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def partial_fc_sparse(classes: int, dim: int, sampled: int, device: str) -> Step:
    """Partial FC (arXiv 2010.05222), whose SGD goes over the sampled rows; here the sample is drawn on the device."""
    rows_CD = torch.normal(0, 0.01, (classes, dim), device=device)
    momentum_CD = torch.zeros_like(rows_CD)

    def step(embeddings_BD: Tensor, labels_B: Tensor, number: int) -> None:
        index_S, target_B = _sample(labels_B, torch.rand(classes, device=device), sampled)
        rows_SD = torch.nn.Parameter(rows_CD[index_S])
        optimizer = torch.optim.SGD([rows_SD], lr=_RATE, momentum=_MOMENTUM)
        optimizer.state[rows_SD]["momentum_buffer"] = momentum_CD[index_S]
        _loss(embeddings_BD, rows_SD, target_B).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rows_CD[index_S] = rows_SD.detach()
        momentum_CD[index_S] = optimizer.state[rows_SD]["momentum_buffer"]

    return step


def _sample(labels_B: Tensor, priority_C: Tensor, sampled: int) -> tuple[Tensor, Tensor]:
    """The sampled rows, (S,), and the place of each label among them, (B,)."""
    positive = torch.unique(labels_B, sorted=True)
    priority_C[positive] = 2.0
    index_S = priority_C.topk(max(sampled, len(positive))).indices.sort().values
    return index_S, torch.searchsorted(index_S, labels_B)


def _loss(embeddings_BD: Tensor, rows_SD: Tensor, target_B: Tensor) -> Tensor:
    with torch.autocast(embeddings_BD.device.type, torch.bfloat16):
        cosine_BS = F.linear(F.normalize(embeddings_BD), F.normalize(rows_SD))
    cosine_BS = cosine_BS.float().clamp(-1, 1)
    margin_BS = torch.zeros_like(cosine_BS).scatter_(1, target_B[:, None], _MARGIN)
    return F.cross_entropy(_SCALE * (cosine_BS - margin_BS), target_B)


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
