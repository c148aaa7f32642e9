import torch

from immr.train.classifier import counter_random

CPU = torch.device("cpu")


def test_the_bits_agree_with_splitmix64():
    """The first outputs for the seed 1234567, from the reference implementation (prng.di.unimi.it)."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [bits % 2**64 for bits in counter_random.bits(1234567, 4, CPU).tolist()] == expected


def test_a_part_of_the_counters_gives_a_part_of_the_bits():
    whole = counter_random.bits(5, 100, CPU)
    assert torch.equal(whole[40:70], counter_random.bits(5, 30, CPU, start=40))


def test_uniform_numbers_are_uniform():
    drawn = counter_random.uniform(1, 100_000, CPU)
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn.float(), 100, 0, 1)
    assert ((counts - 1000).square() / 1000).sum() < 99 + 4 * (2 * 99) ** 0.5


def test_normal_numbers_are_normal():
    drawn = counter_random.normal(2, 200_000, CPU)
    assert drawn.isfinite().all() and drawn.shape == (2, 200_000)
    for moment, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert abs(drawn.double().pow(moment).mean().item() - expected) < 0.05
    assert abs((drawn[0] * drawn[1]).mean().item()) < 0.01
