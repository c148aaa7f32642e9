import torch

from immr.model.encoders.half_precision import agree


def test_every_example_has_to_keep_its_direction() -> None:
    whole_BF = torch.eye(3)
    near_BF = whole_BF + 0.01
    assert agree(near_BF, whole_BF)
    assert agree(2 * whole_BF, whole_BF)  # a cosine has no length
    assert not agree(near_BF.index_fill(0, torch.tensor(2), 1.0), whole_BF)
    assert not agree(near_BF.index_fill(0, torch.tensor(2), torch.inf), whole_BF)
