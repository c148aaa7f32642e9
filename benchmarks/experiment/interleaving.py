"""How many fewer queries does interleaving need than an A/B test? Two rankings with known truth, both tests.

Part of `python -m benchmarks.experiment`. A query has a few relevant items among many. Both rankings see their
relevance with noise, the challenger with less. Shoppers examine position p with probability 1/p, and each clicks
relevant items at their own rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from immr.experiment.definition import CHALLENGER
from immr.experiment.interleaving import draft
from immr.readout.comparison import CTR, Comparison, compare
from immr.readout.power import plan
from immr.readout.preference import Preference, preference
from immr.readout.user_moments import aggregates_of

CANDIDATES, SHOWN, RELEVANT = 20, 10, 3
USERS = 20_000
DRAWS = 20
QUERIES_PER_USER = 5.0
SHARED_NOISE, CHAMPION_NOISE, CHALLENGER_NOISE = 0.5, 0.7, 0.5
POWER, ALPHA = 0.8, 0.05
_EXAMINED_10 = 1 / np.arange(1, SHOWN + 1)
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shop:
    """Queries (Q,) of users, and the chance of a click at each of the ten positions."""

    user_Q: Ints
    chances_2Q10: Floats  # under the champion, under the challenger
    drafted_Q10: Floats  # under their team draft
    team_Q10: Ints  # whose item stands there: 1 the challenger's, −1 the champion's

    @property
    def lift(self) -> float:
        """The truth: expected clicks of the challenger over those of the champion, less 1."""
        champion, challenger = self.chances_2Q10.sum(axis=(1, 2))
        return float(challenger / champion - 1)

    def ab(self, rng: np.random.Generator, users: int) -> Comparison | None:
        """An A/B test with this number of users."""
        order = rng.permutation(USERS)
        arm_U = np.full(USERS, -1)
        arm_U[order[:users]] = rng.random(users) < 0.5
        sides = []
        for arm in (0, 1):
            mine = arm_U[self.user_Q] == arm
            clicks_Q = (rng.random((mine.sum(), SHOWN)) < self.chances_2Q10[arm][mine]).sum(axis=1)
            sides.append(_by_user(self.user_Q[mine], clicks=clicks_Q, impressions=SHOWN))
        return compare(CTR, *(aggregates_of(side) for side in sides))

    def interleaved(
        self, rng: np.random.Generator, users: int, swapped: Ints | None = None
    ) -> Preference | None:
        """Interleaving with this number of users, all their queries at once.

        Where both rankings are equal, `swapped` (U,: 1 or −1) makes a new A/A of the same queries.
        """
        mine = np.isin(self.user_Q, rng.permutation(USERS)[:users])
        clicked_Q10 = rng.random((mine.sum(), SHOWN)) < self.drafted_Q10[mine]
        won_Q = np.sign((clicked_Q10 * self.team_Q10[mine]).sum(axis=1))
        if swapped is not None:
            won_Q = won_Q * swapped[self.user_Q[mine]]
        sums = _by_user(self.user_Q[mine], queries=1, won=won_Q > 0, lost=won_Q < 0)
        return preference(**{f"{name}_U": values for name, values in sums.items()})


def shop(rng: np.random.Generator, challenger_noise: float) -> Shop:
    """Every query is answered by both rankings, and by the product's own draft of them."""
    user_Q = np.repeat(np.arange(USERS), rng.poisson(QUERIES_PER_USER, USERS))
    rate_Q = rng.beta(0.8, 3.2, USERS)[user_Q]
    shape = (len(user_Q), CANDIDATES)
    seen = (np.arange(CANDIDATES) < RELEVANT) + SHARED_NOISE * rng.normal(size=shape)
    orders_2Q10 = np.stack(
        [
            np.argsort(-(seen + noise * rng.normal(size=shape)), axis=1)[:, :SHOWN]
            for noise in (CHAMPION_NOISE, challenger_noise)
        ]
    )
    drafts = [
        draft(*([str(item) for item in order] for order in orders), SHOWN, str(query))
        for query, orders in enumerate(orders_2Q10.transpose(1, 0, 2).tolist())
    ]
    drafted_Q10 = np.array([[int(one.item_id) for one in drafted] for drafted in drafts])

    def chances(items: Ints) -> Floats:
        return np.where(items < RELEVANT, rate_Q[:, None], 0.02) * _EXAMINED_10

    return Shop(
        user_Q=user_Q,
        chances_2Q10=np.stack([chances(orders) for orders in orders_2Q10]),
        drafted_Q10=chances(drafted_Q10),
        team_Q10=np.array([[1 if one.team == CHALLENGER else -1 for one in drafted] for drafted in drafts]),
    )


def sensitivity(rng: np.random.Generator, runs: int) -> dict[str, float]:
    """Queries for a power of 80 % in both tests, and the power that runs of that size then have."""
    better, same = shop(rng, CHALLENGER_NOISE), shop(rng, CHAMPION_NOISE)
    queries = len(better.user_Q) / USERS
    clicks_Q = (rng.random(better.drafted_Q10.shape) < better.chances_2Q10[0]).sum(axis=1)
    champion = aggregates_of(_by_user(better.user_Q, clicks=clicks_Q, impressions=SHOWN))
    wanted = plan(CTR, champion, better.lift, power=POWER)
    assert wanted is not None
    users, value = _users_to_draft(rng, better)
    ab = [better.ab(rng, wanted.users_one_look) for _ in range(runs)]
    drafted = [better.interleaved(rng, users) for _ in range(runs)]
    equal = [same.interleaved(rng, users, swapped=rng.choice((-1, 1), USERS)) for _ in range(runs)]
    return {
        "interleaving_true_lift": better.lift,
        "interleaving_true_preference": value,
        "ab_queries": round(wanted.users_one_look * queries),
        "interleaving_queries": round(users * queries),
        "interleaving_sensitivity": wanted.users_one_look / users,
        "ab_power": _share(one is not None and one.interval.low > 0 for one in ab),
        "interleaving_power": _share(one is not None and one.interval.low > 0 for one in drafted),
        "interleaving_false_positive_rate": _share(one is not None and one.p_value < ALPHA for one in equal),
    }


def _users_to_draft(rng: np.random.Generator, better: Shop) -> tuple[int, float]:
    """Users needed for the power, and the true preference, both from DRAWS runs over all users."""
    found = [one for _ in range(DRAWS) if (one := better.interleaved(rng, USERS)) is not None]
    value = float(np.mean([one.value for one in found]))
    z = NormalDist().inv_cdf(1 - ALPHA / 2)
    error = float(np.mean([(one.interval.high - one.interval.low) / 2 / z for one in found]))
    return int(np.ceil(USERS * ((z + NormalDist().inv_cdf(POWER)) * error / value) ** 2)), value


def _by_user(user_Q: Ints, **sums_Q: npt.ArrayLike) -> dict[str, Floats]:
    users, of_Q = np.unique(user_Q, return_inverse=True)
    return {
        name: np.bincount(of_Q, np.broadcast_to(values, of_Q.shape).astype(np.float64), len(users))
        for name, values in sums_Q.items()
    }


def _share(found: Iterable[bool]) -> float:
    return float(np.mean(list(found)))
