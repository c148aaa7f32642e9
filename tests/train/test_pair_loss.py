import math

import pytest
import torch
import torch.nn.functional as F

from immr.train.pair_loss import SCALE, pair_loss
from immr.train.world import World


def test_one_pair_per_class_is_symmetric_cross_entropy():
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
