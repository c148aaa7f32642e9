import math

import pytest
import torch
import torch.nn.functional as F

from immr.train.pair_loss import SCALE, DocumentMemory, pair_loss
from immr.train.world import World


def test_with_one_pair_per_class_it_is_symmetric_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    photos_PD = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    documents_MD = F.normalize(torch.randn(5, 8, generator=generator), dim=-1)
    classes_P = torch.tensor([4, 7, 1, 9, 2])
    logits_PM, right = SCALE * photos_PD @ documents_MD.T, torch.arange(5)
    expected = F.cross_entropy(logits_PM, right) + F.cross_entropy(logits_PM.T, right)
    torch.testing.assert_close(pair_loss(photos_PD, documents_MD, classes_P, classes_P, World()), expected)


def test_documents_of_the_same_class_do_not_compete():
    photo_PD, documents_MD = torch.eye(3)[:1], torch.eye(3)[[0, 0]]
    loss = pair_loss(photo_PD, documents_MD, torch.tensor([3]), torch.tensor([3, 3]), World())
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    other = pair_loss(photo_PD, documents_MD, torch.tensor([3]), torch.tensor([3, 4]), World())
    assert other.item() > math.log(2) / 2


def test_photos_without_a_document_in_the_batch_count_only_as_negatives():
    rows = torch.eye(4)
    loss = pair_loss(rows[:3], rows[:1], torch.tensor([0, 1, 2]), torch.tensor([0]), World())
    assert loss.item() == pytest.approx(math.log1p(2 * math.exp(-SCALE)), abs=1e-6)
    none = pair_loss(rows[:2], rows[:2], torch.tensor([0, 1]), torch.tensor([2, 3]), World())
    assert none.item() == 0.0


def test_photos_of_a_class_attract_each_other_and_not_themselves():
    photos_PD = torch.eye(4)[[0, 1, 2, 3]]
    classes_P = torch.tensor([5, 5, 8, 9])
    without = pair_loss(photos_PD, photos_PD[:1], classes_P, classes_P[:1], World())
    between = (
        pair_loss(photos_PD, photos_PD[:1], classes_P, classes_P[:1], World(), photo_weight=1.0) - without
    )
    assert between.item() == pytest.approx(math.log(3)), "one classmate among three others, all orthogonal"


def test_remembered_documents_of_other_classes_are_negatives():
    photo_PD, document_MD = torch.eye(3)[:1], torch.eye(3)[:1]
    memory = DocumentMemory(4, 3)
    first = pair_loss(photo_PD, document_MD, torch.tensor([1]), torch.tensor([1]), World(), memory=memory)
    assert first.item() == pytest.approx(0.0, abs=1e-6), "nothing is remembered yet"
    memory.remember(torch.eye(3)[[0, 0]], torch.tensor([1, 2]))
    second = pair_loss(photo_PD, document_MD, torch.tensor([1]), torch.tensor([1]), World(), memory=memory)
    assert second.item() == pytest.approx(math.log(2)), "class 2 looks the same, class 1 is right"


def test_an_empty_memory_has_a_gradient():
    photo_PD = torch.eye(3)[:1].requires_grad_()
    memory = DocumentMemory(4, 3)
    pair_loss(
        photo_PD, torch.eye(3)[:2], torch.tensor([0]), torch.tensor([0, 1]), World(), memory=memory
    ).backward()
    assert photo_PD.grad is not None and bool(photo_PD.grad.isfinite().all())


def test_memory_replaces_the_oldest_and_is_saved_and_loaded():
    memory = DocumentMemory(3, 2)
    for number in range(5):
        memory.remember(torch.full((1, 2), float(number)), torch.tensor([number]))
    assert sorted(memory.classes_Q.tolist()) == [2, 3, 4]
    restored = DocumentMemory(3, 2)
    restored.load_state_dict(memory.state_dict())
    for each in (memory, restored):
        each.remember(torch.full((1, 2), 5.0), torch.tensor([5]))
    assert torch.equal(restored.rows_QD, memory.rows_QD)
    assert sorted(restored.classes_Q.tolist()) == [3, 4, 5]
