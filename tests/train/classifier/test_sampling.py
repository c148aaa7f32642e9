import pytest
import torch

from immr.train.classifier.sampling import draw_rows, sample_seed

NONE = torch.zeros(0, dtype=torch.long)


def _drawn(labels_A, row_count, rate, seed=0, step=0, rank=0):
    """The sample without its padding."""
    sample = draw_rows(labels_A, row_count, rate, sample_seed(seed, step, rank))
    rows_S = sample.rows_S
    if sample.count is not None:
        assert (rows_S[int(sample.count) :] == rows_S[int(sample.count) - 1]).all()
    return rows_S if sample.count is None else rows_S[: int(sample.count)]


def test_a_sample_has_the_positives_and_its_share_of_negatives():
    labels_A = torch.tensor([77, 5, 77, -3, 100, 1000])
    sampled_S = _drawn(labels_A, 100, 0.1, seed=0, step=1)
    assert {5, 77} <= set(sampled_S.tolist()) and len(sampled_S) == 10
    assert sampled_S.tolist() == sorted(set(sampled_S.tolist()))
    assert torch.equal(sampled_S, _drawn(labels_A, 100, 0.1, seed=0, step=1))
    for seed, step, rank in ((1, 1, 0), (0, 2, 0), (0, 1, 1)):
        assert not torch.equal(sampled_S, _drawn(labels_A, 100, 0.1, seed, step, rank))


def test_many_positives_are_all_kept():
    assert torch.equal(_drawn(torch.arange(40), 100, 0.1), torch.arange(40))


def test_the_size_depends_on_the_number_of_labels_only():
    for labels in ([3] * 30, list(range(30)), [-1] * 30):
        assert len(draw_rows(torch.tensor(labels), 100, 0.1, 0).rows_S) == 30
        assert len(draw_rows(torch.tensor(labels), 100, 0.5, 0).rows_S) == 50


def test_padding_repeats_the_last_row():
    sample = draw_rows(torch.tensor([9] * 6), 20, 0.1, 0)
    assert len(sample.rows_S) == 6 and int(sample.count) == 2
    assert sample.is_padding().tolist() == [False, False, True, True, True, True]
    assert sample.source().tolist() == [0, 1, 1, 1, 1, 1]
    assert draw_rows(torch.tensor([9] * 6), 20, 0.5, 0).is_padding() is None


def test_small_and_empty_shards():
    assert _drawn(NONE, 0, 0.5).tolist() == []
    assert _drawn(NONE, 1, 0.5).tolist() == [0]
    assert _drawn(NONE, 7, 1.0).tolist() == list(range(7))
    assert _drawn(torch.tensor([4, 9]), 0, 0.5).tolist() == []


@pytest.mark.parametrize(
    ("positives", "steps"), [([], 1000), ([0], 1000), ([36], 1000), ([0, 1, 17, 18, 36], 3000)]
)
def test_every_negative_is_equally_likely(positives, steps):
    positive_P, counts = torch.tensor(positives, dtype=torch.long), torch.zeros(37)
    for step in range(steps):
        sampled_S = _drawn(positive_P, 37, 0.3, seed=3, step=step)
        assert len(sampled_S) == len(set(sampled_S.tolist())) == 12
        counts[sampled_S] += 1
    assert (counts[positive_P] == steps).all()
    counts[positive_P] = expected = steps * (12 - len(positives)) / (37 - len(positives))
    assert ((counts - expected).square() / expected).sum() < 37 + 4 * (2 * 37) ** 0.5
