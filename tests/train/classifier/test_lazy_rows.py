import copy

import pytest
import torch

from immr.train.classifier import lazy_rows, row_optimizers
from immr.train.classifier.lazy_rows import LazyRows
from immr.train.classifier.row_optimizers import HORIZON, AdamW, RowAdagrad, Sgd

ROWS, DIM, STEPS = 30, 3, 200


def _run(rule, optimizer, rate=0.1, dtype=torch.float64, steps=STEPS):
    """Rows of the lazy and of the dense optimizer after steps that sample some rows, and their slots."""
    generator = torch.Generator().manual_seed(0)
    first_RD = torch.randn(ROWS, DIM, generator=generator, dtype=dtype)
    lazy, dense_RD = LazyRows(first_RD.clone(), rule), torch.nn.Parameter(first_RD.clone())
    dense = optimizer([dense_RD])
    for step in range(steps):
        sampled_S = (torch.rand(ROWS, generator=generator) < rate).nonzero().flatten()
        gradient_SD = torch.randn(len(sampled_S), DIM, generator=generator, dtype=dtype)
        learning_rate = 0.1 / (1 + step % 7)
        values = lazy.read(sampled_S)
        torch.testing.assert_close(values[0], dense_RD.detach()[sampled_S], rtol=1e-5, atol=1e-6)
        lazy.step(sampled_S, values, gradient_SD, learning_rate)
        dense_RD.grad = torch.zeros_like(dense_RD).index_copy(0, sampled_S, gradient_SD)
        dense.param_groups[0]["lr"] = learning_rate
        dense.step()
    return lazy, dense_RD, dense.state[dense_RD]


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.05), (0.9, 0.05)])
def test_sgd_equals_dense_sgd(momentum, decay):
    lazy, dense_RD, state = _run(
        Sgd(momentum, decay), lambda rows: torch.optim.SGD(rows, 1.0, momentum=momentum, weight_decay=decay)
    )
    lazy.settle()
    found = lazy.state_dict()
    torch.testing.assert_close(found["rows"], dense_RD.detach(), rtol=1e-10, atol=1e-13)
    if momentum:
        torch.testing.assert_close(found["slots"][0], state["momentum_buffer"], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("epsilon", "tolerance"), [(1e-30, 1e-10), (1e-8, 1e-6)])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_adamw_equals_dense_adamw_up_to_epsilon(decay, epsilon, tolerance):
    lazy, dense_RD, state = _run(
        AdamW(epsilon=epsilon, weight_decay=decay),
        lambda rows: torch.optim.AdamW(rows, 1.0, eps=epsilon, weight_decay=decay),
    )
    lazy.settle()
    found = lazy.state_dict()
    torch.testing.assert_close(found["rows"], dense_RD.detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found["slots"][0], state["exp_avg"], rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found["slots"][1], state["exp_avg_sq"], rtol=1e-10, atol=1e-13)


def test_adagrad_is_adagrad_with_one_accumulator_per_row():
    generator = torch.Generator().manual_seed(0)
    expected_RD = torch.randn(ROWS, DIM, generator=generator, dtype=torch.float64)
    lazy = LazyRows(expected_RD.clone(), RowAdagrad())
    lazy.slots = [slot.double() for slot in lazy.slots]
    assert [tuple(slot.shape) for slot in lazy.slots] == [(ROWS, 1)]
    squares_R1 = torch.zeros(ROWS, 1, dtype=torch.float64)
    for _ in range(20):
        sampled_S = (torch.rand(ROWS, generator=generator) < 0.3).nonzero().flatten()
        gradient_SD = torch.randn(len(sampled_S), DIM, generator=generator, dtype=torch.float64)
        lazy.step(sampled_S, lazy.read(sampled_S), gradient_SD, 0.1)
        squares_R1[sampled_S] += gradient_SD.square().mean(1, keepdim=True)
        expected_RD[sampled_S] -= 0.1 * gradient_SD / squares_R1[sampled_S].sqrt()
    lazy.settle()
    torch.testing.assert_close(lazy.rows_RD, expected_RD, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("rule", [Sgd(0.9, 0.01), AdamW()])
def test_float32_stays_close(rule):
    optimizers = {
        Sgd: lambda rows: torch.optim.SGD(rows, 1.0, momentum=0.9, weight_decay=0.01),
        AdamW: lambda rows: torch.optim.AdamW(rows, 1.0),
    }
    lazy, dense_RD, _ = _run(rule, optimizers[type(rule)], dtype=torch.float32, steps=50)
    lazy.settle()
    torch.testing.assert_close(lazy.rows_RD, dense_RD.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", [Sgd(0.9, 0.01), AdamW(epsilon=1e-30)])
def test_the_tables_of_missed_steps_are_bounded(rule, monkeypatch):
    horizon = 128
    for module in (lazy_rows, row_optimizers):
        monkeypatch.setattr(module, "HORIZON", horizon)
    lazy = LazyRows(torch.randn(9, 2, dtype=torch.float64), rule)
    again = LazyRows(lazy.rows_RD.clone(), type(rule)(**_arguments(rule)))
    sampled_S = torch.tensor([4])
    for step in range(horizon + 3):
        gradient_SD = torch.full((1, 2), float(step % 3 - 1), dtype=torch.float64)
        for rows in (lazy, again):
            rows.step(sampled_S, rows.read(sampled_S), gradient_SD, 0.01)
        if step % 30 == 0:
            again.settle()
    assert (lazy.done, lazy.since) == (horizon + 3, 3)
    assert torch.iinfo(lazy.touched_R.dtype).max >= HORIZON
    for rows in (lazy, again):
        rows.settle()
    torch.testing.assert_close(lazy.rows_RD, again.rows_RD, rtol=1e-10, atol=1e-13)


def _arguments(rule):
    return {name: getattr(rule, name) for name in rule.__dataclass_fields__ if name != "slot_widths"}


@pytest.mark.parametrize("rule", [Sgd(0.9, 0.01), AdamW(weight_decay=0.05), RowAdagrad()])
def test_a_saved_state_is_the_current_one_and_changes_nothing(rule):
    lazy, other = (LazyRows(torch.randn(7, 3), rule_) for rule_ in (rule, type(rule)(**_arguments(rule))))
    generator = torch.Generator().manual_seed(0)

    def step(rows, number):
        sampled_S = torch.randperm(7, generator=generator.manual_seed(number))[:3].sort().values
        gradient_SD = torch.randn(3, 3, generator=generator)
        rows.step(sampled_S, rows.read(sampled_S), gradient_SD, 0.1 / (1 + number))

    for number in range(9):
        step(lazy, number)
    before_RD = lazy.rows_RD.clone()
    other.load_state_dict(copy.deepcopy(lazy.state_dict()))
    assert torch.equal(lazy.rows_RD, before_RD)
    for number in range(9, 15):
        step(lazy, number)
        step(other, number)
    for rows in (lazy, other):
        rows.settle()
    assert torch.equal(lazy.rows_RD, other.rows_RD)
