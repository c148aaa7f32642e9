import copy

import pytest
import torch

from immr.train.optimization.averaging import Average


def network(value: float) -> torch.nn.Module:
    made = torch.nn.Linear(2, 1)
    with torch.no_grad():
        made.weight.fill_(value)
        made.bias.fill_(7.0)
    made.bias.requires_grad_(False)
    return made


def test_the_first_weights_fade_fast_and_the_decay_is_reached() -> None:
    moving, average = network(0.0), Average(network(1.0), decay=0.9)
    shares = [min(0.9, (1 + update) / (10 + update)) for update in range(200)]
    expected = 1.0
    for share in shares:
        average.update(moving)
        expected *= share
    assert average.network["weight"].mean().item() == pytest.approx(expected, abs=1e-6)
    assert shares[0] == 0.1 and shares[-1] == 0.9


def test_untrained_parameters_stay() -> None:
    average = Average(network(1.0), decay=0.9)
    moving = network(0.0)
    with torch.no_grad():
        moving.bias.fill_(0.0)
    average.update(moving)
    assert average.network["bias"].item() == 7.0


def test_it_continues_from_a_saved_state() -> None:
    whole, broken = (Average(network(1.0), decay=0.99) for _ in range(2))
    for value in (0.0, 0.5):
        whole.update(network(value))
        broken.update(network(value))
    resumed = Average(network(5.0), decay=0.99)
    resumed.load_state_dict(copy.deepcopy(broken.state_dict()))
    for average in (whole, resumed):
        average.update(network(-1.0))
    assert torch.equal(whole.network["weight"], resumed.network["weight"])
    assert resumed.updates == 3
