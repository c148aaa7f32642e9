import pytest
import torch

from immr.train.classifier.sampling import sample_rows

NONE = torch.zeros(0, dtype=torch.long)


def test_a_sample_has_the_positives_and_its_share_of_negatives():
    positive_P = torch.tensor([5, 77])
    sampled_S = sample_rows(positive_P, 100, 0.1, seed=0, step=1, rank=0)
    assert {5, 77} <= set(sampled_S.tolist()) and len(sampled_S) == 10
    assert sampled_S.tolist() == sorted(set(sampled_S.tolist()))
    assert torch.equal(sampled_S, sample_rows(positive_P, 100, 0.1, seed=0, step=1, rank=0))
    for seed, step, rank in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        assert not torch.equal(sampled_S, sample_rows(positive_P, 100, 0.1, seed, step, rank))


def test_many_positives_are_all_kept():
    assert torch.equal(sample_rows(torch.arange(40), 100, 0.1, 0, 0, 0), torch.arange(40))


def test_small_and_empty_shards():
    assert sample_rows(NONE, 0, 0.5, 0, 0, 0).tolist() == []
    assert sample_rows(NONE, 1, 0.5, 0, 0, 0).tolist() == [0]
    assert sample_rows(NONE, 7, 1.0, 0, 0, 0).tolist() == list(range(7))


@pytest.mark.parametrize("positives", [[], [0], [36], [0, 1, 17, 18, 36]])
def test_every_negative_is_as_likely(positives):
    positive_P, counts = torch.tensor(positives, dtype=torch.long), torch.zeros(37)
    for step in range(3000):
        sampled_S = sample_rows(positive_P, 37, 0.3, seed=3, step=step, rank=0)
        assert len(sampled_S) == len(set(sampled_S.tolist())) == 12
        counts[sampled_S] += 1
    assert (counts[positive_P] == 3000).all()
    counts[positive_P] = expected = 3000 * (12 - len(positives)) / (37 - len(positives))
    assert ((counts - expected).square() / expected).sum() < 37 + 4 * (2 * 37) ** 0.5
