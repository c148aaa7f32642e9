"""Reads and updates sampled rows: gather, catch-up, optimizer, rounding and scatter in one kernel each.

`row_optimizers` derives the catch-up and is the reference. Padding is read and never written.

Shapes: R rows of this rank, S sampled rows, D embedding, H steps since all rows were last brought up to date.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import torch
import triton
import triton.language as tl
from torch import Tensor

SGD, ADAMW, ADAGRAD = 0, 1, 2
_SHORTEST = 1e-12  # as in torch.nn.functional.normalize
_TILE = 2048  # values that a program holds of each tensor; four times as many would not fit the registers
_TABLE_BLOCK = 256  # rows of the table of missed steps
# places of the numbers of a step
_RATE, _SINCE, _SEED, _MOMENTUM, _SECOND, _DECAY, _BIAS, _ROOT_BIAS, _EPSILON, _MISSED_EPSILON = (
    tl.constexpr(place) for place in range(10)
)


@dataclass(frozen=True)
class Stored:
    """The rows of a rank with what their optimizer needs."""

    rows_RD: Tensor  # float32 or bfloat16
    first_R: Tensor  # momentum, mean or squares; (R, D), for Adagrad (R, 1)
    second_RD: Tensor  # AdamW's squares; others ignore it
    touched_R: Tensor  # int16
    factors_H4: Tensor  # of the missed steps, float64; Adagrad ignores it
    numbers: Tensor  # of the step, from `StepNumbers`
    kind: int  # SGD, ADAMW or ADAGRAD


@dataclass(frozen=True)
class StepNumbers:
    """The numbers of one optimizer step.

    The kernels read them from the device, so a recorded CUDA graph can be replayed with others.
    """

    rate: float
    since: int  # steps since all rows were up to date, this one included
    seed: int  # of the rounding to bfloat16; 31 bits
    momentum: float = 0.0  # AdamW: first beta
    second: float = 0.0  # AdamW: second beta
    decay: float = 0.0
    bias: float = 1.0  # AdamW: of the mean
    root_bias: float = 1.0  # AdamW: of the root of the squares
    epsilon: float = 0.0
    missed_epsilon: float = 0.0  # AdamW: of the catch-up

    def copy_to(self, numbers: Tensor) -> None:
        """Write the numbers to a float64 tensor of `NUMBERS` places; the host does not wait."""
        on_gpu = numbers.device.type == "cuda"
        values = torch.tensor(astuple(self), dtype=torch.float64, pin_memory=on_gpu)
        numbers.copy_(values, non_blocking=on_gpu)


NUMBERS = len(fields(StepNumbers))


def read(stored: Stored, sampled_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Sampled rows with all missed steps taken, scaled to norm 1, (S, D); and their norms, float32 (S,)."""
    count, dim = len(sampled_S), stored.rows_RD.shape[1]
    unit_SD = torch.empty(count, dim, dtype=dtype, device=sampled_S.device)
    length_S = torch.empty(count, device=sampled_S.device)
    tile = tile_of(dim)
    _read[(triton.cdiv(count, tile["BLOCK_S"]),)](
        *_tensors(stored),
        sampled_S,
        unit_SD,
        length_S,
        count,
        _SHORTEST,
        KIND=stored.kind,
        **tile,
    )
    return unit_SD, length_S


def update(stored: Stored, sampled_S: Tensor, gradient_SD: Tensor, count: Tensor | None = None) -> None:
    """One optimizer step of the sampled rows, in place, with the numbers of `stored`.

    Args:
        stored: as in `read`, before this step is recorded as missed by the others.
        sampled_S: distinct, except for padding.
        gradient_SD: float32.
        count: rows from here on are padding; int64 scalar.
    """
    rows, tile = len(sampled_S), tile_of(stored.rows_RD.shape[1])
    _update[(triton.cdiv(rows, tile["BLOCK_S"]),)](
        *_tensors(stored),
        sampled_S,
        gradient_SD,
        sampled_S if count is None else count,
        rows,
        IS_PADDED=count is not None,
        IS_ROUNDED=stored.rows_RD.dtype == torch.bfloat16,
        KIND=stored.kind,
        **tile,
    )


def tile_of(dim: int) -> dict[str, int]:
    """What a program works on: some whole rows of that many values."""
    whole = max(16, triton.next_power_of_2(dim))
    return {"DIM": dim, "BLOCK_S": max(1, _TILE // whole), "BLOCK_D": whole}


def record_missed(stored: Stored) -> None:
    """Record the step of `stored` for the rows that missed it, as `RowOptimizer.passed` does."""
    if stored.kind == ADAGRAD:
        return
    count = len(stored.factors_H4)
    _record_missed[(triton.cdiv(count, _TABLE_BLOCK),)](
        stored.factors_H4, stored.numbers, KIND=stored.kind, BLOCK=_TABLE_BLOCK
    )


def try_out(device: torch.device) -> None:
    """Run the smallest kernel; raises any error."""
    table_H4 = torch.ones(_TABLE_BLOCK, 4, dtype=torch.float64, device=device)
    numbers = torch.zeros(NUMBERS, dtype=torch.float64, device=device)
    _record_missed[(1,)](table_H4, numbers, KIND=SGD, BLOCK=_TABLE_BLOCK)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _tensors(stored: Stored) -> tuple[Tensor, ...]:
    return (
        stored.rows_RD,
        stored.first_R,
        stored.second_RD,
        stored.touched_R,
        stored.factors_H4,
        stored.numbers,
    )


@triton.jit
def _caught_up(
    rows_ptr,
    first_ptr,
    second_ptr,
    touched_ptr,
    factors_ptr,
    numbers_ptr,
    index,
    at,
    there,
    KIND: tl.constexpr,
):
    """Rows and slots of a tile with all missed steps taken, in float32."""
    rows = tl.load(rows_ptr + at, mask=there, other=0.0).to(tl.float32)
    first, second = rows, rows
    if KIND != 2:
        touched = tl.load(touched_ptr + index).to(tl.int64) * 4
        own = tl.load(factors_ptr + touched).to(tl.float32)[:, None]
        other = tl.load(factors_ptr + touched + 1).to(tl.float32)[:, None]
        third = tl.load(factors_ptr + touched + 2).to(tl.float32)[:, None]
        fourth = tl.load(factors_ptr + touched + 3).to(tl.float32)[:, None]
        first = tl.load(first_ptr + at, mask=there, other=0.0).to(tl.float32)
        if KIND == 0:
            before = rows
            rows = own * before + other * first
            first = third * before + fourth * first
        else:
            second = tl.load(second_ptr + at, mask=there, other=0.0).to(tl.float32)
            epsilon = tl.load(numbers_ptr + _MISSED_EPSILON).to(tl.float32)
            rows = own * rows - other * first / (tl.sqrt(second) + epsilon)
            first = third * first
            second = fourth * second
    return rows, first, second


@triton.jit
def _read(
    rows_ptr,
    first_ptr,
    second_ptr,
    touched_ptr,
    factors_ptr,
    numbers_ptr,
    sampled_ptr,
    unit_ptr,
    length_ptr,
    count,
    shortest,
    KIND: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    places = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    index = tl.load(sampled_ptr + places, mask=places < count, other=0)
    there = (places[:, None] < count) & (dims[None, :] < DIM)
    at = index[:, None] * DIM + dims[None, :]
    rows, _, _ = _caught_up(
        rows_ptr, first_ptr, second_ptr, touched_ptr, factors_ptr, numbers_ptr, index, at, there, KIND
    )
    length = tl.maximum(tl.sqrt(tl.sum(rows * rows, 1)), shortest)
    into = places.to(tl.int64)[:, None] * DIM + dims[None, :]
    tl.store(unit_ptr + into, (rows / length[:, None]).to(unit_ptr.dtype.element_ty), mask=there)
    tl.store(length_ptr + places, length, mask=places < count)


@triton.jit
def _update(
    rows_ptr,
    first_ptr,
    second_ptr,
    touched_ptr,
    factors_ptr,
    numbers_ptr,
    sampled_ptr,
    gradient_ptr,
    count_ptr,
    sampled,
    IS_PADDED: tl.constexpr,
    IS_ROUNDED: tl.constexpr,
    KIND: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    places = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    end = sampled
    if IS_PADDED:
        end = tl.load(count_ptr).to(tl.int32)
    index = tl.load(sampled_ptr + places, mask=places < end, other=0)
    there = (places[:, None] < end) & (dims[None, :] < DIM)
    at = index[:, None] * DIM + dims[None, :]
    into = places.to(tl.int64)[:, None] * DIM + dims[None, :]
    gradient = tl.load(gradient_ptr + into, mask=there, other=0.0)
    rows, first, second = _caught_up(
        rows_ptr, first_ptr, second_ptr, touched_ptr, factors_ptr, numbers_ptr, index, at, there, KIND
    )
    rate = tl.load(numbers_ptr + _RATE).to(tl.float32)
    epsilon = tl.load(numbers_ptr + _EPSILON).to(tl.float32)
    since = tl.load(numbers_ptr + _SINCE).to(tl.int32).to(tl.int16)
    seed = tl.load(numbers_ptr + _SEED).to(tl.int32)
    if KIND != 2:
        momentum = tl.load(numbers_ptr + _MOMENTUM).to(tl.float32)
        decay = tl.load(numbers_ptr + _DECAY).to(tl.float32)
    if KIND == 0:
        first = momentum * first + gradient + decay * rows
        rows = rows - rate * first
    if KIND == 1:
        second_beta = tl.load(numbers_ptr + _SECOND).to(tl.float32)
        bias = tl.load(numbers_ptr + _BIAS).to(tl.float32)
        root_bias = tl.load(numbers_ptr + _ROOT_BIAS).to(tl.float32)
        rows = rows * (1 - rate * decay)
        first = first + (1 - momentum) * (gradient - first)
        second = second_beta * second + (1 - second_beta) * gradient * gradient
        rows = rows - rate / bias * first / (tl.sqrt(second) / root_bias + epsilon)
    if KIND == 2:
        squares = tl.load(first_ptr + index, mask=places < end, other=1.0)
        squares += tl.sum(gradient * gradient, 1) / DIM
        rows = rows - rate * gradient / (tl.sqrt(squares) + epsilon)[:, None]
        tl.store(first_ptr + index, squares, mask=places < end)
    _store(rows_ptr, at, rows, there, seed, IS_ROUNDED)
    if KIND != 2:
        _store(first_ptr, at, first, there, seed + 1, IS_ROUNDED)
    if KIND == 1:
        _store(second_ptr, at, second, there, seed + 2, IS_ROUNDED)
    tl.store(touched_ptr + index, tl.zeros((BLOCK_S,), tl.int16) + since, mask=places < end)


@triton.jit
def _store(pointer, at, values, there, seed, IS_ROUNDED: tl.constexpr):
    """Write a tile; to bfloat16 with stochastic rounding, as `rounding.to_bfloat16` does."""
    if IS_ROUNDED:
        noise = tl.randint(seed, at.to(tl.uint32)) & 0xFFFF
        bits = values.to(tl.uint32, bitcast=True) + noise.to(tl.uint32)
        tl.store(pointer + at, (bits >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=there)
    else:
        tl.store(pointer + at, values, mask=there)


@triton.jit
def _record_missed(factors_ptr, numbers_ptr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """The table of missed steps, in float64; rows touched in a later step have not missed this one."""
    touched = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at = factors_ptr + touched * 4
    there = touched < tl.load(numbers_ptr + _SINCE).to(tl.int32)
    rate, decay = tl.load(numbers_ptr + _RATE), tl.load(numbers_ptr + _DECAY)
    momentum = tl.load(numbers_ptr + _MOMENTUM)
    own = tl.load(at, mask=there, other=0.0)
    other = tl.load(at + 1, mask=there, other=0.0)
    third = tl.load(at + 2, mask=there, other=0.0)
    fourth = tl.load(at + 3, mask=there, other=1.0)
    kept = 1 - rate * decay
    if KIND == 0:
        tl.store(at, own * kept - rate * momentum * third, mask=there)
        tl.store(at + 1, other * kept - rate * momentum * fourth, mask=there)
        tl.store(at + 2, momentum * third + decay * own, mask=there)
        tl.store(at + 3, momentum * fourth + decay * other, mask=there)
    else:
        third *= momentum
        fourth *= tl.load(numbers_ptr + _SECOND)
        scaled = rate * tl.load(numbers_ptr + _ROOT_BIAS) / tl.load(numbers_ptr + _BIAS)
        tl.store(at, own * kept, mask=there)
        tl.store(at + 1, other * kept + scaled * third / tl.sqrt(fourth), mask=there)
        tl.store(at + 2, third, mask=there)
        tl.store(at + 3, fourth, mask=there)
