import numpy as np

from immr.train.inputs.augmentation import AUGMENTATIONS
from immr.train.inputs.random_numbers import NUMBERS, RandomNumbers, random_numbers


def _numbers(one: RandomNumbers) -> list[float]:
    return [one.between(0, 1) for _ in range(NUMBERS)]


def test_a_row_has_the_same_numbers_whatever_is_drawn_with_it():
    alone, together, other = (
        random_numbers(7, [5])[0],
        random_numbers(7, [3, 5, 900_000_000_000])[1],
        random_numbers(8, [5])[0],
    )
    numbers = _numbers(alone)
    assert numbers == _numbers(together) != _numbers(other)


def test_numbers_are_uniform_and_unrelated():
    drawn_BK = np.array([_numbers(one) for one in random_numbers(2**62 + 1, range(4000))])
    assert drawn_BK.min() >= 0 and drawn_BK.max() < 1
    np.testing.assert_allclose(drawn_BK.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(drawn_BK.std(0), 12**-0.5, atol=0.02)
    related_KK = np.corrcoef(drawn_BK.T) - np.eye(NUMBERS)
    assert np.abs(related_KK).max() < 0.08
    assert np.abs(np.corrcoef(drawn_BK[:-1, 0], drawn_BK[1:, 0])[0, 1]) < 0.08


def test_a_picture_has_enough_numbers_for_any_change():
    most = 0
    for domain in (domain for pair in AUGMENTATIONS.values() for domain in pair):
        for number in (0.0, 0.999):
            left = iter([number] * 2 * NUMBERS)
            change = domain.drawn(60, 40, 32, RandomNumbers(left))
            most = max(most, 2 * NUMBERS - len(list(left)))
            assert (change.erased is not None) == (number < domain.erased), "0 makes every change"
    assert 0 < most <= NUMBERS
