"""Softmax over many rows whose logits never leave the chip (as in arXiv 2205.14135 and arXiv 2411.09009).

Each kernel computes a tile of logits, uses it and drops it. So the backward pass computes the logits again, twice,
which takes less time than writing and reading them.

Shapes: A examples, S rows, D embedding, P parts into which the rows are split to occupy the GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_PROGRAMS = 512  # at least this many run at once, a few for each multiprocessor
_LARGEST = 2.0**15  # a gradient in a product: float16 then holds probabilities down to 2⁻³⁹
_SMALLEST = 1e-30  # smaller gradients count as zero
_PRECISION = "tf32x3"  # of float32 products: three of TF32 each, because one keeps as few bits as float16


@dataclass(frozen=True)
class Logits:
    """The logits of one softmax, not computed yet."""

    scaled_AD: Tensor  # scale × unit embeddings, in the type of the product
    unit_SD: Tensor  # unit rows, in the same type
    column_A: Tensor  # of each example's class; −1 if another rank has it. int32
    hardened_A: Tensor  # logit of the right class, after the margin. float32
    limit: float  # other logits above it are left out
    count: Tensor | None  # rows from here on are padding; int64 scalar

    @property
    def block(self) -> tuple[int, int, int]:
        """Examples and rows of a tile, and the power of two that holds D; tiles fit an H100's shared memory."""
        whole = max(16, triton.next_power_of_2(self.unit_SD.shape[1]))
        examples, rows = (128, 64) if whole <= 128 else (64, 64) if whole <= 256 else (32, 32)
        return (examples // 2, rows // 2, whole) if self.unit_SD.itemsize > 2 else (examples, rows, whole)

    @property
    def part(self) -> int:
        """Rows of a part, a multiple of a tile's."""
        examples, rows, _ = self.block
        parts = max(1, _PROGRAMS // triton.cdiv(len(self.scaled_AD), examples))
        return rows * int(triton.cdiv(triton.cdiv(len(self.unit_SD), parts), rows))

    def constants(self, largest_a: int | None = None) -> dict[str, object]:
        """What a kernel is compiled for, with at most `largest_a` examples in a tile."""
        block_a, block_s, block_d = self.block
        return {
            "IS_PADDED": self.count is not None,
            "IS_LIMITED": self.limit < math.inf,
            "DIM": self.unit_SD.shape[1],
            "BLOCK_A": min(block_a, largest_a or block_a),
            "BLOCK_S": block_s,
            "BLOCK_D": block_d,
            "PRECISION": _PRECISION,
        }


def highest_and_sum(problem: Logits) -> tuple[Tensor, Tensor]:
    """Each example's largest logit and its sum of exponents relative to it, float32 (A,)."""
    examples, rows, part = len(problem.scaled_AD), len(problem.unit_SD), problem.part
    parts = triton.cdiv(rows, part)
    found_2PA = torch.empty(2, parts, examples, device=problem.scaled_AD.device)
    _forward[(triton.cdiv(examples, problem.block[0]), parts)](
        *_tensors(problem),
        found_2PA,
        examples,
        rows,
        part,
        parts,
        problem.limit,
        **problem.constants(),
        num_warps=8,
    )
    highest_A = found_2PA[0].amax(0)
    return highest_A, (found_2PA[1] * (found_2PA[0] - highest_A).exp()).sum(0)


def gradient_of_embeddings(problem: Logits, log_sum_A: Tensor, upstream_A: Tensor) -> Tensor:
    """Of the scaled embeddings, float32 (A, D), without the part of the right classes.

    Args:
        problem: as in the forward pass.
        log_sum_A: log of the sum of exponents over all ranks.
        upstream_A: gradient of each example's loss.
    """
    (examples, dim), rows, part = problem.scaled_AD.shape, len(problem.unit_SD), problem.part
    parts, (raised_A, unit) = triton.cdiv(rows, part), _raised(upstream_A)
    found_PAD = torch.empty(parts, examples, dim, device=problem.scaled_AD.device)
    _backward_embeddings[(triton.cdiv(examples, problem.block[0]), parts)](
        *_tensors(problem),
        log_sum_A,
        raised_A,
        unit,
        found_PAD,
        examples,
        rows,
        part,
        problem.limit,
        **problem.constants(),
        num_warps=8,
    )
    return found_PAD.sum(0)


def gradient_of_rows(problem: Logits, length_S: Tensor, log_sum_A: Tensor, upstream_A: Tensor) -> Tensor:
    """Of the rows before they got norm 1, float32 (S, D), without the part of the right classes; zero for padding.

    Args:
        problem: as in the forward pass.
        length_S: the rows' norms.
        log_sum_A: log of the sum of exponents over all ranks.
        upstream_A: gradient of each example's loss.
    """
    (examples, dim), rows = problem.scaled_AD.shape, len(problem.unit_SD)
    raised_A, unit = _raised(upstream_A)
    found_SD = torch.empty(rows, dim, device=problem.scaled_AD.device)
    _backward_rows[(triton.cdiv(rows, problem.block[1]),)](
        *_tensors(problem),
        log_sum_A,
        raised_A,
        unit,
        length_S,
        found_SD,
        examples,
        rows,
        problem.limit,
        **problem.constants(largest_a=64),
        num_warps=4,
    )
    return found_SD


def _raised(upstream_A: Tensor) -> tuple[Tensor, Tensor]:
    """The upstream gradient, scaled to the range of the product's type, and the scale to multiply results by."""
    unit = upstream_A.abs().amax().clamp_min(_SMALLEST).div(_LARGEST)
    return upstream_A / unit, unit


def _tensors(problem: Logits) -> tuple[Tensor, ...]:
    count = problem.column_A if problem.count is None else problem.count
    return problem.scaled_AD, problem.unit_SD, problem.column_A, problem.hardened_A, count


@triton.jit
def _logits(
    left, right, columns, hardened, places, limit, end, IS_LIMITED: tl.constexpr, PRECISION: tl.constexpr
):
    """A tile of logits, left @ rightᵀ; `columns`, `hardened` and `places` are broadcast to its shape."""
    logits = tl.dot(left, tl.trans(right), input_precision=PRECISION)
    if IS_LIMITED:
        logits = tl.where(logits > limit, float("-inf"), logits)
    logits = tl.where(places == columns, hardened, logits)
    return tl.where(places < end, logits, float("-inf"))


@triton.jit
def _rows_of(pointer, places, dims, end, DIM: tl.constexpr):
    """A tile of rows of a contiguous matrix; zero outside of it."""
    there = (places[:, None] < end) & (dims[None, :] < DIM)
    return tl.load(pointer + places.to(tl.int64)[:, None] * DIM + dims[None, :], mask=there, other=0.0)


@triton.jit
def _forward(
    scaled_ptr,
    unit_ptr,
    column_ptr,
    hardened_ptr,
    count_ptr,
    found_ptr,
    examples,
    rows,
    part,
    parts,
    limit,
    IS_PADDED: tl.constexpr,
    IS_LIMITED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK_A + tl.arange(0, BLOCK_A)
    number = tl.program_id(1)
    dims = tl.arange(0, BLOCK_D)
    scaled = _rows_of(scaled_ptr, at, dims, examples, DIM)
    columns = tl.load(column_ptr + at, mask=at < examples, other=-1)[:, None]
    hardened = tl.load(hardened_ptr + at, mask=at < examples, other=0.0)[:, None]
    end = rows
    if IS_PADDED:
        end = tl.load(count_ptr).to(tl.int32)
    highest = tl.full((BLOCK_A,), -3.0e38, tl.float32)
    total = tl.zeros((BLOCK_A,), tl.float32)
    for start in range(number * part, tl.minimum(rows, (number + 1) * part), BLOCK_S):
        places = start + tl.arange(0, BLOCK_S)
        unit = _rows_of(unit_ptr, places, dims, rows, DIM)
        logits = _logits(scaled, unit, columns, hardened, places[None, :], limit, end, IS_LIMITED, PRECISION)
        higher = tl.maximum(highest, tl.max(logits, 1))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        highest = higher
    tl.store(found_ptr + number * examples + at, highest, mask=at < examples)
    tl.store(found_ptr + (parts + number) * examples + at, total, mask=at < examples)


@triton.jit
def _gradient(logits, columns, places, log_sum, upstream):
    """The gradient of a tile of logits; zero at the right classes, whose part needs more bits than a product has."""
    return tl.where(places == columns, 0.0, tl.exp(logits - log_sum) * upstream)


@triton.jit
def _backward_embeddings(
    scaled_ptr,
    unit_ptr,
    column_ptr,
    hardened_ptr,
    count_ptr,
    log_sum_ptr,
    upstream_ptr,
    raised_unit_ptr,
    found_ptr,
    examples,
    rows,
    part,
    limit,
    IS_PADDED: tl.constexpr,
    IS_LIMITED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    at = tl.program_id(0) * BLOCK_A + tl.arange(0, BLOCK_A)
    number = tl.program_id(1)
    dims = tl.arange(0, BLOCK_D)
    there = at < examples
    scaled = _rows_of(scaled_ptr, at, dims, examples, DIM)
    columns = tl.load(column_ptr + at, mask=there, other=-1)[:, None]
    hardened = tl.load(hardened_ptr + at, mask=there, other=0.0)[:, None]
    log_sum = tl.load(log_sum_ptr + at, mask=there, other=0.0)[:, None]
    upstream = tl.load(upstream_ptr + at, mask=there, other=0.0)[:, None]
    end = rows
    if IS_PADDED:
        end = tl.load(count_ptr).to(tl.int32)
    found = tl.zeros((BLOCK_A, BLOCK_D), tl.float32)
    for start in range(number * part, tl.minimum(rows, (number + 1) * part), BLOCK_S):
        places = start + tl.arange(0, BLOCK_S)
        unit = _rows_of(unit_ptr, places, dims, rows, DIM)
        logits = _logits(scaled, unit, columns, hardened, places[None, :], limit, end, IS_LIMITED, PRECISION)
        gradient = _gradient(logits, columns, places[None, :], log_sum, upstream)
        found += tl.dot(gradient.to(unit.dtype), unit, input_precision=PRECISION)
    found *= tl.load(raised_unit_ptr)
    into = found_ptr + (number * examples + at).to(tl.int64)[:, None] * DIM + dims[None, :]
    tl.store(into, found, mask=there[:, None] & (dims[None, :] < DIM))


@triton.jit
def _backward_rows(
    scaled_ptr,
    unit_ptr,
    column_ptr,
    hardened_ptr,
    count_ptr,
    log_sum_ptr,
    upstream_ptr,
    raised_unit_ptr,
    length_ptr,
    found_ptr,
    examples,
    rows,
    limit,
    IS_PADDED: tl.constexpr,
    IS_LIMITED: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    places = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    unit = _rows_of(unit_ptr, places, dims, rows, DIM)
    end = rows
    if IS_PADDED:
        end = tl.load(count_ptr).to(tl.int32)
    found = tl.zeros((BLOCK_S, BLOCK_D), tl.float32)
    for start in range(0, examples, BLOCK_A):
        at = start + tl.arange(0, BLOCK_A)
        there = at < examples
        scaled = _rows_of(scaled_ptr, at, dims, examples, DIM)
        columns = tl.load(column_ptr + at, mask=there, other=-1)[None, :]
        hardened = tl.load(hardened_ptr + at, mask=there, other=0.0)[None, :]
        log_sum = tl.load(log_sum_ptr + at, mask=there, other=0.0)[None, :]
        upstream = tl.load(upstream_ptr + at, mask=there, other=0.0)[None, :]
        # rows first: the gradient is then in the registers where the next product needs it
        logits = _logits(unit, scaled, columns, hardened, places[:, None], limit, end, IS_LIMITED, PRECISION)
        gradient = _gradient(logits, columns, places[:, None], log_sum, upstream)
        found += tl.dot(gradient.to(scaled.dtype), scaled, input_precision=PRECISION)
    unit = unit.to(tl.float32)
    along = tl.sum(found * unit, 1)
    length = tl.load(length_ptr + places, mask=places < rows, other=1.0)
    found = (found - unit * along[:, None]) * (tl.load(raised_unit_ptr) / length[:, None])
    into = found_ptr + places.to(tl.int64)[:, None] * DIM + dims[None, :]
    tl.store(into, found, mask=(places[:, None] < rows) & (dims[None, :] < DIM))
