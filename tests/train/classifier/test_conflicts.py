import torch
import torch.nn.functional as F

from immr.train.classifier import margins
from immr.train.classifier.softmax import MarginSoftmax, Targets
from immr.train.world import World


def _loss(conflict_cosine: float, rows_SD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one example along the first axis whose class is row 0, and the rows' gradient."""
    rows_SD = rows_SD.clone().requires_grad_()
    softmax = MarginSoftmax(margins.CosFace(0.2), 8.0, World(), conflict_cosine)
    targets = Targets.among(torch.tensor([0]), torch.arange(len(rows_SD)), len(rows_SD))
    loss = softmax(torch.tensor([[1.0, 0.0, 0.0]]), rows_SD, targets).sum()
    loss.backward()
    assert rows_SD.grad is not None
    return loss.detach(), rows_SD.grad


def test_a_conflicting_negative_is_not_pushed_away():
    rows_SD = F.normalize(torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.1, 0.0], [0.0, 0.2, 1.0]]), dim=-1)
    _, kept = _loss(1.0, rows_SD)
    loss, filtered = _loss(0.6, rows_SD)
    assert kept[1].norm() > 0 and filtered[1].norm() == 0
    expected, _ = _loss(1.0, rows_SD[[0, 2]])
    torch.testing.assert_close(loss, expected)


def test_the_right_class_stays_however_similar_it_is():
    rows_SD = torch.tensor([[1.0, 0.01, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(_loss(0.5, rows_SD), _loss(1.0, rows_SD))
