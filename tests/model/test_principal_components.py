"""Principal directions of two domains, found from weighted rows."""

from __future__ import annotations

import torch

from immr.model.principal_components import FITTED_ROWS, begin_with, components, shares_of, some


def test_each_domain_weighs_the_same_however_many_rows_it_has() -> None:
    first, second = torch.eye(4)[:1].repeat(1000, 1), torch.eye(4)[1:2] * 3
    found_CF = components([(first, shares_of(None, first)), (second, shares_of(None, second))], 2)
    energies = (found_CF[:, :2] ** 2).sum(0)
    torch.testing.assert_close(energies, torch.ones(2))


def test_rows_with_more_weight_decide_the_first_direction() -> None:
    rows_BF = torch.cat([torch.eye(3)[:1].repeat(9, 1), torch.eye(3)[1:2]])
    for heavy, weights_B in ((0, None), (1, torch.tensor([0.1] * 9 + [5.0]))):
        [first_F] = components([(rows_BF, shares_of(weights_B, rows_BF))], 1)
        assert int(first_F.abs().argmax()) == heavy


def test_weights_sum_to_one() -> None:
    torch.testing.assert_close(shares_of(torch.tensor([1.0, 3.0]), torch.zeros(2, 5)).tolist(), [0.25, 0.75])


def test_rows_without_a_component_become_zero() -> None:
    rows_DF = torch.ones(3, 2)
    begin_with(rows_DF, torch.eye(2))
    assert rows_DF.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_many_rows_are_thinned_evenly() -> None:
    kept = some(torch.arange(2 * FITTED_ROWS + 1))
    assert len(kept) <= FITTED_ROWS and kept.tolist()[:3] == [0, 3, 6]
