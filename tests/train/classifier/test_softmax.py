import math

import pytest
import torch
import torch.nn.functional as F

from immr.train.classifier import margins
from immr.train.classifier.softmax import MarginSoftmax, Targets
from immr.train.world import World

ONE = World()


@pytest.mark.parametrize("margin", [margins.CosFace(0.3), margins.ArcFace(0.4)])
def test_loss_and_gradients_agree_with_plain_torch(margin):
    generator = torch.Generator().manual_seed(0)
    first_AD = F.normalize(torch.randn(4, 5, generator=generator, dtype=torch.float64), dim=-1)
    first_SD = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    weights_A = torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=torch.float64)
    labels_A = torch.tensor([3, 3, 0, 5])

    def by_hand(embeddings_AD, rows_SD):
        targets = Targets.among(labels_A, torch.arange(6), 6)
        return MarginSoftmax(margin, 4.0, ONE)(embeddings_AD, rows_SD, targets)

    def plain(embeddings_AD, rows_SD):
        cosine_AS = embeddings_AD @ F.normalize(rows_SD, dim=-1).T
        is_target_AS = F.one_hot(labels_A, 6).bool()
        logits_AS = 4.0 * torch.where(is_target_AS, margin(cosine_AS), cosine_AS)
        return F.cross_entropy(logits_AS, labels_A, reduction="none")

    found = []
    for loss in (by_hand, plain):
        embeddings_AD, rows_SD = first_AD.clone().requires_grad_(), first_SD.clone().requires_grad_()
        loss_A = loss(embeddings_AD, rows_SD)
        (loss_A * weights_A).sum().backward()
        found.append((loss_A, embeddings_AD.grad, rows_SD.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-14)


def test_a_second_backward_pass_is_refused():
    rows_SD = torch.eye(2, requires_grad=True)
    targets = Targets.among(torch.tensor([0, 1]), torch.arange(2), 2)
    loss = MarginSoftmax(margins.CosFace(0.1), 4.0, ONE)(torch.eye(2), rows_SD, targets).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_targets_are_found_among_sorted_rows():
    targets = Targets.among(torch.tensor([9, 4, -2, 30, 12]), torch.tensor([2, 4, 9, 12]), 12)
    assert targets.is_own_A.tolist() == [True, True, False, False, False]
    assert targets.column_A[:2].tolist() == [2, 1]
    assert not Targets.among(torch.tensor([9]), torch.zeros(0, dtype=torch.long), 0).is_own_A.any()


@pytest.mark.parametrize("margin", [margins.CosFace(0.3), margins.ArcFace(0.4)])
@pytest.mark.parametrize(("conflict_cosine", "padded"), [(1.0, False), (0.5, True)])
def test_chunks_of_any_width_give_the_same_result(margin, conflict_cosine, padded):
    generator = torch.Generator().manual_seed(0)
    first_AD = F.normalize(torch.randn(7, 4, generator=generator, dtype=torch.float64), dim=-1)
    first_SD = torch.randn(13, 4, generator=generator, dtype=torch.float64)
    labels_A = torch.tensor([0, 3, 3, 12 if not padded else 9, 7, -1, 40])
    is_padding_S = torch.arange(13) >= 10 if padded else None
    found = []
    for width in (13, 5, 4, 1):
        embeddings_AD, rows_SD = first_AD.clone().requires_grad_(), first_SD.clone().requires_grad_()
        softmax = MarginSoftmax(margin, 6.0, ONE, conflict_cosine, largest_buffer=7 * width)
        loss_A = softmax(embeddings_AD, rows_SD, Targets.among(labels_A, torch.arange(13), 13), is_padding_S)
        (loss_A * torch.arange(7)).sum().backward()
        found.append((loss_A, embeddings_AD.grad, rows_SD.grad))
    assert all(tensor.isfinite().all() for tensor in found[0])
    if padded:
        assert (found[0][2][10:] == 0).all()
    for each in found[1:]:
        torch.testing.assert_close(found[0], each, rtol=1e-12, atol=1e-14)


def test_a_large_scale_does_not_overflow():
    embeddings_AD = torch.tensor([[1.0, 0.0]])
    rows_SD = torch.tensor([[-2.0, 0.0], [-1.0, 1e-4]])
    softmax = MarginSoftmax(margins.CosFace(0.0), 1000.0, ONE)
    loss_A = softmax(embeddings_AD, rows_SD, Targets.among(torch.tensor([0]), torch.arange(2), 2))
    assert loss_A.item() == pytest.approx(math.log(2), abs=1e-3)
