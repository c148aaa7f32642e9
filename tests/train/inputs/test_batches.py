import dataclasses

import pytest
import torch

from immr.errors import TrainingError
from immr.train.inputs.batches import BatchPlan, Partners
from immr.train.world import World


def _plan(rank: int = 0, size: int = 1, photos: int = 50, documents: int = 7) -> BatchPlan:
    return BatchPlan(
        photos, documents, views=3, batch_size=8, document_batch_size=8, seed=0, world=World(rank, size)
    )


def test_ranks_share_an_epoch_without_overlap():
    epochs = [list(_plan(rank, 2).epoch(0)) for rank in range(2)]
    photos = torch.cat([rows.photos_B for epoch in epochs for rows in epoch]).tolist()
    assert len(photos) == len(set(photos)) == 48
    assert len(epochs[0]) == len(epochs[1]) == _plan(0, 2).steps_per_epoch == 3


def test_documents_take_turns():
    rows = list(_plan(documents=20).epoch(0))
    seen = torch.cat([each.documents_B for each in rows]).bincount(minlength=20)
    assert seen.min() >= 2 and seen.max() <= 3


def test_an_epoch_depends_on_its_number_only():
    one, again, other = (list(_plan().epoch(epoch)) for epoch in (1, 1, 2))
    for left, right in zip(one, again, strict=True):
        assert all(torch.equal(getattr(left, name), getattr(right, name)) for name in vars(left))
    assert not torch.equal(one[0].photos_B, other[0].photos_B)


def test_few_photos_make_small_batches_and_too_few_an_error():
    assert _plan(size=2, photos=3).photo_batch == 1
    assert _plan(documents=1, size=2).document_batch == 1
    with pytest.raises(TrainingError, match="fewer processes"):
        _plan(size=2, photos=1)


def _pairs(
    rank: int = 0, size: int = 1, document_batch_size: int = 4
) -> tuple[BatchPlan, torch.Tensor, torch.Tensor]:
    photo_classes = torch.randint(5, (50,), generator=torch.Generator().manual_seed(0))
    document_classes = torch.tensor([3, 0, 1, 2, 4, 3, 0])
    partners = Partners.of(photo_classes, document_classes)
    plan = dataclasses.replace(_plan(rank, size), document_batch_size=document_batch_size, partners=partners)
    return plan, photo_classes, document_classes


def test_with_partners_photos_come_in_pairs_with_a_document_of_their_class():
    plan, photo_classes, document_classes = _pairs(document_batch_size=3)
    drawn = set[int]()
    for epoch in range(4):
        for rows in plan.epoch(epoch):
            pairs = photo_classes[rows.photos_B].view(-1, 2)
            assert torch.equal(pairs[:, 0], pairs[:, 1])
            assert torch.equal(document_classes[rows.documents_B], pairs[:3, 0])
            drawn |= set(rows.documents_B.tolist())
    assert drawn == set(range(7)), "a class with several documents shows all of them"


def test_an_epochs_pairs_contain_all_photos_and_none_often():
    plan, photo_classes, _ = _pairs()
    assert plan.partners is not None
    shown = plan.partners.pairs(torch.Generator().manual_seed(0)).bincount(minlength=50)
    assert shown.min() == 1 and shown.max() <= 2
    assert (shown == 2).sum() == (photo_classes.bincount() % 2).sum(), "one photo of each odd class"


def test_a_lone_photo_is_its_own_partner():
    partners = Partners.of(torch.tensor([0, 1, 1]), torch.tensor([0, 1]))
    pairs = partners.pairs(torch.Generator().manual_seed(0)).view(-1, 2).tolist()
    assert [0, 0] in pairs and len(pairs) == 2


def test_ranks_share_the_pairs_of_an_epoch():
    epochs = [list(_pairs(rank, 2)[0].epoch(0)) for rank in range(2)]
    assert len(epochs[0]) == len(epochs[1])
    pairs = [tuple(pair) for epoch in epochs for rows in epoch for pair in rows.photos_B.view(-1, 2).tolist()]
    assert len(pairs) == len(set(pairs))


def test_too_few_pairs_for_the_processes_are_an_error():
    partners = Partners.of(torch.tensor([0, 0]), torch.tensor([0]))
    with pytest.raises(TrainingError, match="fewer processes"):
        dataclasses.replace(_plan(size=2, photos=2), partners=partners)
