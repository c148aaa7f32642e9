"""Simulated shops for the A/B statistics: users with known behaviour, summed up hour by hour.

Part of `python -m benchmarks.experiment`. A world defines how often users come back, how their clicks clump
and whose searches fail. `looks` returns the moments over users that the readout's statistics need at every
hourly look, at the cost of the sessions and not of users × looks: thousands of tests take minutes.

Shapes: U users, S sessions (ordered by user, then time), H hours, 2 variants (champion, challenger).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from immr.readout.user_moments import RatioMoments

POSITIONS = 10
CLICK_SHAPE = (0.8, 7.2)  # Beta: the users' rates, 0.1 on average
BUYING = 1.3  # where clicks are clumped, this times a user's rate is the share of sessions for buying
BUYING_CTR, BROWSING_CTR = 0.6, 0.01
BURSTS, BOT_CTR = 5, 0.6
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """How users behave, the same in both variants unless `lift` or `extra_errors` is set."""

    name: str
    share: float = 0.5  # of the users who get the challenger
    hours: int = 168
    users: int = 3360  # who arrive in these hours
    sessions: float = 1.5  # expected after the first one
    tail: float | None = None  # searches per user: Pareto with this exponent; None: Poisson
    growing: bool = False  # each session has more searches than the one before, and comes sooner
    clumped: bool = False  # a session is either for browsing or for buying, and clicks fall in the latter
    hard: float = 0.0  # share of users whose searches mostly fail, find nothing or are slow
    devices: float = 0.0  # expected further devices of a person: each is a user with the person's click rate
    throwaway: float = (
        0.0  # share of users who are one bot that has a new id for each search, in a few bursts
    )
    falling: float = 0.0  # share of the CTR that both variants lose from the first to the last hour
    ctr: float = 0.1  # mean over users
    buyers: bool = False  # users who search more click on more, up to five times as much
    lift: float = 0.0  # of the challenger's CTR: −0.5 halves it
    lift_halves_h: float | None = (
        None  # hours after which half of the lift is gone: a novelty; None: it stays
    )
    weekend_lift: float | None = None  # on Saturdays and Sundays, instead of `lift`
    first_day: int = 0  # of the test; 0 is a Monday
    extra_errors: float = 0.0  # share of the challenger's searches that fail beyond that


EQUAL = (
    World("even"),
    World("Pareto users", tail=1.3),
    World("clumped clicks", clumped=True),
    World("growing sessions", growing=True, sessions=4),
    World("correlated failures, 2 % of users", hard=0.02),
    World("correlated failures, 5 % of users", hard=0.05),
    World("all together", tail=1.3, clumped=True, hard=0.05),
    World("several devices", tail=1.3, clumped=True, devices=1.5),
    World("throwaway ids of a bot", throwaway=0.2),
    World("falling CTR", tail=1.3, falling=0.7),
    World("rare clicks", tail=1.3, ctr=0.001),
    World("buyers search more", tail=1.3, buyers=True),
)
"""Worlds whose variants are equal; each is also run at a challenger's share of 10 %."""


def at_share(world: World, share: float) -> World:
    """The same world with another share of users for the challenger."""
    return replace(world, name=f"{world.name}, {share:.0%} share", share=share)


BAD = tuple(
    replace(at_share(world, share), name=f"{what}: {world.name}, {share:.0%} share", **change)
    for what, change in (("half the CTR", {"lift": -0.5}), ("5 points more errors", {"extra_errors": 0.05}))
    for world in (EQUAL[0], EQUAL[1], EQUAL[2])
    for share in (0.5, 0.1)
)
"""Challengers that have to go."""


@dataclass(frozen=True)
class Looks:
    """What the readout's statistics need at each hourly look: (H,) arrays, the champion first."""

    clicks: tuple[RatioMoments, RatioMoments]  # per impression
    ctr_per_user: tuple[RatioMoments, RatioMoments]  # of each user alone, per user
    fallbacks: tuple[RatioMoments, RatioMoments]  # per search, as are the next two
    empty: tuple[RatioMoments, RatioMoments]
    slow: tuple[RatioMoments, RatioMoments]  # slower than what counts as slow


@dataclass(frozen=True)
class Sessions:
    """All sessions of one test."""

    hours: int
    challenged_U: npt.NDArray[np.bool_]
    user_S: Ints
    hour_S: Ints
    searches_S: Ints
    counted_4S: Ints  # clicks, fallbacks, searches without results, slow searches

    def users_at(self, hour: int) -> tuple[npt.NDArray[np.bool_], Ints, Ints]:
        """Users with a session by then: whether they are challenged, their searches, and (4, U) counts."""
        seen_S = self.hour_S <= hour
        rows_5S = np.vstack([self.searches_S, self.counted_4S])[:, seen_S]
        sums_5U = np.stack([np.bincount(self.user_S[seen_S], row, len(self.challenged_U)) for row in rows_5S])
        there_U = sums_5U[0] > 0
        sums_5U = sums_5U[:, there_U].astype(np.int64)
        return self.challenged_U[there_U], sums_5U[0], sums_5U[1:]


def sessions(world: World, rng: np.random.Generator) -> Sessions:
    """One test in this world."""
    user_S, session_S, hour_S = _sessions(world, rng)
    searches_S = _searches(world, rng, user_S, session_S)
    challenged_U = rng.random(world.users) < world.share
    challenged_S = challenged_U[user_S]
    lift_S = world.lift * challenged_S
    if world.lift_halves_h is not None:
        lift_S = lift_S * 0.5 ** (hour_S / world.lift_halves_h)
    if world.weekend_lift is not None:
        day_S = (world.first_day + hour_S // 24) % 7
        lift_S = np.where(day_S < 5, lift_S, world.weekend_lift * challenged_S)
    clicks_S = _clicks(world, rng, user_S, hour_S, searches_S, lift_S)
    failed_3S = [
        _failed(world, rng, user_S, searches_S, usual + extra * challenged_S)
        for usual, extra in ((0.005, world.extra_errors), (0.01, 0.0), (0.003, 0.0))
    ]
    counted_4S = np.vstack([clicks_S, *failed_3S])
    return Sessions(world.hours, challenged_U, user_S, hour_S, searches_S, counted_4S)


def _sessions(world: World, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """User, number within the user, and hour of each session; those after the end are left out."""
    count_U = 1 + rng.poisson(rng.gamma(1.0, world.sessions, world.users))
    bots_U = _bots(world)
    count_U[bots_U] = 1
    user_S = np.repeat(np.arange(world.users), count_U)
    first_U = np.cumsum(count_U) - count_U
    session_S = np.arange(len(user_S)) - first_U[user_S]
    gap_S = rng.exponential(24.0, len(user_S)) / (1 + session_S if world.growing else 1)
    gap_S[first_U] = rng.uniform(0, world.hours, world.users)
    if bots_U.any():
        bursts = rng.uniform(0, world.hours, BURSTS)
        gap_S[first_U[bots_U]] = bursts[rng.integers(0, BURSTS, bots_U.sum())]
    total_S = gap_S.cumsum()
    start_U = total_S[first_U] - gap_S[first_U]
    hour_S = np.floor(total_S - start_U[user_S]).astype(np.int64)
    there_S = hour_S < world.hours
    return user_S[there_S], session_S[there_S], hour_S[there_S]


def _searches(world: World, rng: np.random.Generator, user_S: Ints, session_S: Ints) -> Ints:
    if world.growing:
        expected_S = 0.5 * (1 + session_S)
    elif world.tail is not None:
        expected_S = np.minimum(rng.pareto(world.tail, world.users), 500)[user_S]
    else:
        expected_S = np.ones(len(user_S))
    return np.asarray(1 + rng.poisson(expected_S * ~_bots(world)[user_S]), dtype=np.int64)


def _bots(world: World) -> npt.NDArray[np.bool_]:
    """Whether a user is a throwaway id, (U,): the first users are."""
    return np.arange(world.users) < round(world.throwaway * world.users)


def _clicks(
    world: World,
    rng: np.random.Generator,
    user_S: Ints,
    hour_S: Ints,
    searches_S: Ints,
    lift_S: Floats,
) -> Ints:
    rate_U = world.ctr / 0.1 * rng.beta(*CLICK_SHAPE, world.users)
    if world.buyers:
        searches_U = np.bincount(user_S, searches_S, world.users)
        rate_U = rate_U * np.minimum((1 + searches_U) / 6, 5.0)
    if world.devices:
        rate_U = rate_U[rng.integers(0, round(world.users / (1 + world.devices)), world.users)]
    rate_S = rate_U[user_S]
    if world.clumped:
        buys_S = rng.random(len(user_S)) < BUYING * rate_S
        rate_S = np.where(buys_S, BUYING_CTR, BROWSING_CTR)
    rate_S = np.where(_bots(world)[user_S], BOT_CTR, rate_S)
    rate_S = rate_S * (1 + lift_S) * (1 - world.falling * hour_S / world.hours)
    return np.asarray(rng.binomial(searches_S * POSITIONS, np.minimum(rate_S, 1.0)), dtype=np.int64)


def _failed(world: World, rng: np.random.Generator, user_S: Ints, searches_S: Ints, usual_S: Floats) -> Ints:
    """Searches that fail: nearly all of the hard users', and of the others' a usual share, spread evenly."""
    share_S = np.where((rng.random(world.users) < world.hard)[user_S], 0.9, usual_S)
    failed_S = (rng.random(len(user_S)) < searches_S * share_S).astype(np.int64)
    many_S = searches_S * share_S > 0.3  # else at most one failure is as good, and much faster to draw
    failed_S[many_S] = rng.binomial(searches_S[many_S], share_S[many_S])
    return failed_S


def looks(test: Sessions) -> Looks:
    """Moments over users at each hour, from the change of each user's sums, squares and products."""
    user_S, hours = test.user_S, test.hours
    new_S = np.empty(len(user_S), dtype=bool)
    new_S[0], new_S[1:] = True, user_S[1:] != user_S[:-1]
    first_S = np.maximum.accumulate(np.where(new_S, np.arange(len(user_S)), 0))
    sums_5S = np.vstack([test.searches_S, test.counted_4S]).astype(np.float64)
    total_5S = sums_5S.cumsum(axis=1)
    after_5S = total_5S - (total_5S - sums_5S)[:, first_S]
    before_5S = after_5S - sums_5S
    changes = [new_S.astype(np.float64), *sums_5S]
    changes += list(after_5S**2 - before_5S**2)
    changes += list(after_5S[1:] * after_5S[0] - before_5S[1:] * before_5S[0])
    rate_S, rate_before_S = (
        sums_5S[1] / np.maximum(POSITIONS * sums_5S[0], 1) for sums_5S in (after_5S, before_5S)
    )
    changes += [rate_S - rate_before_S, rate_S**2 - rate_before_S**2]
    at_S = test.challenged_U[user_S] * hours + test.hour_S
    sums_K2H = np.stack([np.bincount(at_S, change, 2 * hours) for change in changes])
    sums_K2H = sums_K2H.reshape(-1, 2, hours).cumsum(axis=2)

    def ratio(numerator: int, per: float) -> tuple[RatioMoments, RatioMoments]:
        champion, challenger = (
            RatioMoments.of_sums(
                users=sums_K2H[0, arm],
                numerator=sums_K2H[1 + numerator, arm],
                denominator=per * sums_K2H[1, arm],
                numerator_squares=sums_K2H[6 + numerator, arm],
                denominator_squares=per**2 * sums_K2H[6, arm],
                products=per * sums_K2H[10 + numerator, arm],
            )
            for arm in (0, 1)
        )
        return champion, challenger

    users_2H, rate_2H, rate_squares_2H = sums_K2H[[0, -2, -1]]
    champion, challenger = (
        RatioMoments.of_sums(
            users=users_2H[arm],
            numerator=rate_2H[arm],
            denominator=users_2H[arm],
            numerator_squares=rate_squares_2H[arm],
            denominator_squares=users_2H[arm],
            products=rate_2H[arm],
        )
        for arm in (0, 1)
    )
    return Looks(ratio(1, POSITIONS), (champion, challenger), ratio(2, 1), ratio(3, 1), ratio(4, 1))
