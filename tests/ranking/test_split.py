from pathlib import Path

import numpy as np

from immr.ranking.ranker_recipe import RankerRecipe
from immr.ranking.split import by_user, split
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


def test_by_user_the_same_users_have_all_their_queries(tmp_path: Path) -> None:
    ranking_log.write(tmp_path, queries=400, users=60)
    log = ranking_log.read(tmp_path)
    parts, whole = split(log, RankerRecipe()), by_user(log, RankerRecipe())
    assert (whole.train_Q.astype(int) + whole.stop_Q + whole.gate_Q == 1).all()
    for part, side in (
        (parts.train_Q, whole.train_Q),
        (parts.stop_Q, whole.stop_Q),
        (parts.gate_Q, whole.gate_Q),
    ):
        assert set(log.user_Q[part].tolist()) <= set(log.user_Q[side].tolist())


def test_the_part_with_too_few_clicks_is_named(tmp_path: Path) -> None:
    ranking_log.write(tmp_path, queries=400, users=60)
    log = ranking_log.read(tmp_path)
    whole = by_user(log, RankerRecipe())
    assert whole.lacks(log, RankerRecipe(min_clicks=30)) == ""
    clicks = int((log.clicked_R & whole.train_Q[log.query_R]).sum())
    assert whole.lacks(log, RankerRecipe(min_clicks=10_000)) == f"{clicks} remain to train (needed: 10000)"
    nobody = whole.within(np.zeros(len(log.user_Q), dtype=bool))
    assert nobody.lacks(log, RankerRecipe(min_clicks=30)) == "0 remain to train (needed: 30)"
