import itertools

from immr.train.seeds import derived_seed


def test_different_places_have_different_seeds():
    places = [place for length in range(4) for place in itertools.product((0, 1, 2), repeat=length)]
    seeds = [derived_seed(seed, *place) for seed in (0, 1) for place in places]
    assert len(set(seeds)) == len(seeds)


def test_the_same_place_has_the_same_seed():
    assert derived_seed(3, 1, 2) == derived_seed(3, 1, 2)
