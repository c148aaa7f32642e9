from datetime import timedelta

import numpy as np
import pytest

from immr.data.attributes import CLASS
from immr.ranking.examples import Examples, attribute_kinds
from immr.search.signals import names
from tests.support import ranking_log


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return ranking_log.of(tmp_path_factory.mktemp("log"), queries=60, users=10)


def test_every_impression_has_the_signals_of_search(made: Examples) -> None:
    columns = names(made.attributes)
    assert made.signals_RF.shape == (360, len(columns))
    found = dict(zip(columns, made.signals_RF.T, strict=True))
    assert np.allclose(found["cosine"], made.first.cosine_R)
    assert found["first_rank"].tolist() == made.first.rank_R.tolist()
    prices = [ranking_log.items()[item].price for item in made.log.item_R]
    assert found["price"].tolist() == prices
    assert ((found["brand_share"] >= 0) & (found["brand_share"] <= 1)).all()
    begun = np.array([9 + day for day in made.log.time_Q / timedelta(days=1).total_seconds() / 1e6])
    begun -= begun[0] - found["age_days"][0]
    assert np.allclose(found["age_days"], begun[made.log.query_R])


def test_hand_weights_do_not_know_the_clicks_of_the_day(made: Examples) -> None:
    first_day = made.log.day_Q[made.log.query_R] == made.log.day_Q[0]
    assert np.allclose(made.hand_R[first_day], made.first.cosine_R[first_day])
    assert (made.hand_R[~first_day] > made.first.cosine_R[~first_day]).all()  # plus the CTR


def test_lists_and_classes_made_from_clicks_are_no_signals() -> None:
    (item, *_) = ranking_log.items()
    assert attribute_kinds([item]) == {"brand": "keyword"}
    item.attributes[CLASS] = "7"  # type: ignore[index]
    item.attributes["tags"] = ["a", "b"]  # type: ignore[index]
    assert attribute_kinds([item]) == {"brand": "keyword"}
