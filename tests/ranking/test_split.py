from pathlib import Path

import numpy as np

from immr.ranking.ranker_recipe import RankerRecipe
from immr.ranking.split import split
from tests.support import ranking_log


def test_users_and_times_are_apart(tmp_path: Path) -> None:
    ranking_log.write(tmp_path, queries=400, users=60)
    log = ranking_log.read(tmp_path)
    parts = split(log, RankerRecipe())
    sides = (parts.train_Q, parts.stop_Q, parts.gate_Q)
    assert all(side.any() for side in sides)
    users = [set(log.user_Q[side].tolist()) for side in sides]
    assert not users[0] & users[1]
    assert not users[0] & users[2]
    assert not users[1] & users[2]
    assert log.time_Q[parts.train_Q].max() < min(
        log.time_Q[parts.stop_Q].min(), log.time_Q[parts.gate_Q].min()
    )
    again = split(log, RankerRecipe())
    assert np.array_equal(again.gate_Q, parts.gate_Q)
