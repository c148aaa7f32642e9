"""Compiles the kernels for an H100, without one: python -m tests.train.classifier.kernel_compiler <dim> or steps.

With a dimension, each kernel with the types that it may have; with `steps`, each launch of whole steps, as a GPU
would compile it for these very arguments, but nothing is launched. Prints the bytes of shared memory that each needs,
as JSON. Runs in a process of its own, because the tests interpret the kernels in theirs.
"""

import inspect
import json
import sys
from dataclasses import replace

import torch
import torch.nn.functional as F
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from benchmarks.gpu.classifier_steps import Case, cases, recipe_of
from immr.train.classifier.class_shard import Shard
from immr.train.classifier.kernels import rows, softmax
from immr.train.classifier.sharded_classifier import make_classifier
from immr.train.world import World

H100 = GPUTarget("cuda", 90, 32)
PRODUCTS = {torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32"}
ROWS = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}
TYPES = {
    **dict.fromkeys(("column_ptr",), "*i32"),
    **dict.fromkeys(("count_ptr", "sampled_ptr"), "*i64"),
    **dict.fromkeys(("examples", "rows", "part", "parts", "count", "sampled"), "i32"),
    "touched_ptr": "*i16",
    **dict.fromkeys(("factors_ptr", "numbers_ptr"), "*fp64"),
}


def shared_bytes(kernel, constants, types, warps=4) -> int:
    """Arguments without a type are float32: pointers if their name ends in _ptr."""
    signature = {
        name: "constexpr"
        if name in constants
        else (TYPES | types).get(name, "*fp32" if name.endswith("_ptr") else "fp32")
        for name in inspect.signature(kernel.fn).parameters
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=H100, options={"num_warps": warps}).metadata.shared


def of_softmax(dim, dtype):
    rows_SD = torch.empty(1, dim, dtype=dtype)
    empty = torch.empty(1)
    problem = softmax.Logits(rows_SD, rows_SD, empty.int(), empty, 1.0, empty.long())
    types = dict.fromkeys(("scaled_ptr", "unit_ptr"), PRODUCTS[dtype])
    yield "forward", shared_bytes(softmax._forward, problem.constants(), types, 8)
    yield "backward_embeddings", shared_bytes(softmax._backward_embeddings, problem.constants(), types, 8)
    yield "backward_rows", shared_bytes(softmax._backward_rows, problem.constants(largest_a=64), types)


def of_rows(dim, dtype):
    constants = rows.tile_of(dim)
    for name, kind in {"sgd": rows.SGD, "adamw": rows.ADAMW, "adagrad": rows.ADAGRAD}.items():
        types = dict.fromkeys(("rows_ptr", "second_ptr"), ROWS[dtype])
        types["first_ptr"] = "*fp32" if kind == rows.ADAGRAD else ROWS[dtype]
        types["unit_ptr"] = "*fp16"
        rounded = {"IS_PADDED": True, "IS_ROUNDED": dtype == torch.bfloat16}
        yield f"read, {name}", shared_bytes(rows._read, constants | {"KIND": kind}, types)
        yield f"update, {name}", shared_bytes(rows._update, constants | rounded | {"KIND": kind}, types)
        if kind != rows.ADAGRAD:
            table = {"BLOCK": rows._TABLE_BLOCK, "KIND": kind}
            yield f"record missed, {name}", shared_bytes(rows._record_missed, table, {})


class H100Driver:
    """What Triton asks about the GPU before it compiles."""

    def get_current_target(self):
        return H100

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


def compile_launches() -> dict[str, int]:
    """From now on a launch compiles its kernel and does no more; what each needs, by number and name."""
    needed, run = {}, JITFunction.run
    driver.set_active(H100Driver())

    def compiling(function, *args, grid, warmup, **kwargs):
        assert all(0 < size < limit for size, limit in zip(grid, (2**31, 2**16, 2**16), strict=False))
        kernel = run(function, *args, grid=grid, warmup=True, **kwargs)
        needed[f"{len(needed)} {function.fn.__name__}"] = kernel.metadata.shared

    JITFunction.run = compiling
    return needed


def of_steps():
    """The steps of `benchmarks.gpu` on fewer classes, and odd ones."""
    ours = [case for case in cases(tiny=False) if case.what in ("immr", "exact")]
    odd = [Case("immr", 97, 20, 1, 16), Case("immr", 97, 20, 33, 4, "adamw"), Case("exact", 1, 7, 1, 1)]
    needed = compile_launches()
    for case in [*ours, *odd]:
        case = replace(case, classes=min(case.classes, 20_480))
        classifier = make_classifier(recipe_of(case), Shard(case.classes, case.dim, World()), kernels=True)
        embeddings_BD = F.normalize(torch.randn(case.batch, case.dim), dim=-1).requires_grad_()
        classifier(embeddings_BD, torch.randint(case.classes, (case.batch,)), 0).mean().backward()
        classifier.update(0.1)
    return needed


if __name__ == "__main__":
    if sys.argv[1] == "steps":
        print(json.dumps(of_steps()))
        sys.exit()
    dim = int(sys.argv[1])
    needed = {
        f"{kernel}, {dtype}": count
        for of, types in ((of_softmax, PRODUCTS), (of_rows, ROWS))
        for dtype in types
        for kernel, count in of(dim, dtype)
    }
    print(json.dumps(needed))
