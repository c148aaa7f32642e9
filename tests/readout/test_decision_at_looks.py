"""The rules that the benchmark runs over all looks at once decide as `decide` does at each look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.experiment.simulated_tests import EQUAL, POSITIONS, Sessions, World, looks, sessions
from benchmarks.experiment.stopping_rules import immr_rules
from immr.experiment.definition import Experiment, Variant
from immr.readout.decision import Decision, DecisionPolicy, decide
from immr.readout.readout import readout_of_sums
from immr.readout.sums import Sums
from immr.readout.user_moments import COUNTS, RatioMoments
from immr.readout.variant_health import SLOW_MS, Health

SMALL = World("small", hours=60, users=3000, tail=1.3, clumped=True, hard=0.03)


def decided(test: Sessions, hour: int, world: World) -> Decision:
    """The product's decision from the sums of the users seen by this hour."""
    challenged_U, searches_U, (clicks_U, *failed_3U) = test.users_at(hour)
    columns = dict.fromkeys(COUNTS, np.zeros(len(searches_U), dtype=np.int64))
    columns |= {"queries": searches_U, "impressions": POSITIONS * searches_U, "clicks": clicks_U}
    users = pa.table({"variant": np.where(challenged_U, "challenger", "champion"), **columns})
    users = users.append_column("user_id", pa.array(np.arange(len(searches_U)).astype(str)))
    health = tuple(
        _health(name, searches_U[of], [failed_U[of] for failed_U in failed_3U])
        for name, of in (("champion", ~challenged_U), ("challenger", challenged_U))
    )
    sides = (
        Variant("champion", "http://a", "immr-1", 1 - world.share),
        Variant("challenger", "http://b", "immr-2", world.share),
    )
    experiment = Experiment("test", "salt", sides, planned_users=world.users, min_days=0)
    sums = Sums(users, (), (), health, 0, 0, 1.0, False)
    return decide(readout_of_sums(sums, experiment), DecisionPolicy())


def _health(name: str, searches_U: np.ndarray, failed_3U: list[np.ndarray]) -> Health:
    fallbacks, empty, slow = (RatioMoments.of_users(failed_U, searches_U) for failed_U in failed_3U)
    searches = int(searches_U.sum())
    return Health(name, len(searches_U), searches, 0.0, 0.0, 100.0, fallbacks, empty, (slow,) * len(SLOW_MS))


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("change", [{}, {"lift": 0.8}, {"lift": -0.5}, {"extra_errors": 0.2}], ids=str)
def test_rules_over_all_looks_agree_with_decide(share: float, change: dict[str, float]) -> None:
    world = replace(SMALL, share=share, **change)
    test = sessions(world, np.random.default_rng(1))
    verdicts = immr_rules(looks(test), world)
    rails = verdicts["error rate"] | verdicts["zero results"] | verdicts["latency"]
    actions = np.where(verdicts["promote"], "promote", "")
    actions = np.where(rails | verdicts["CTR"], "roll back", actions)
    for hour in (0, 3, 10, 20, 40, 59, *np.flatnonzero(actions != "")[:2]):
        action = decided(test, int(hour), world).action
        assert action == actions[hour] or (actions[hour] == "" and action in ("wait", "keep"))
    if change and share == 0.5:
        assert "promote" in actions if change.get("lift", 0) > 0 else "roll back" in actions


def test_moments_over_looks_agree_with_those_of_the_users() -> None:
    test = sessions(EQUAL[-1], np.random.default_rng(2))
    challenged_U, searches_U, (clicks_U, *_) = test.users_at(50)
    expected = RatioMoments.of_users(clicks_U[challenged_U], POSITIONS * searches_U[challenged_U])
    found = looks(test).clicks[1]
    for name in ("users", "numerator", "denominator", "numerator_variance", "covariance"):
        assert getattr(found, name)[50] == pytest.approx(float(getattr(expected, name)))
