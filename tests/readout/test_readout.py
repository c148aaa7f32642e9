"""The readout: against hand calculation, tea-tasting, and simulated users."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from immr.errors import ExperimentError
from immr.experiment.definition import Experiment, Variant
from immr.readout.comparison import CTR, Comparison, Look, compare
from immr.readout.formats.text import as_rows
from immr.readout.readout import readout
from immr.readout.sequential import always_valid_half_width, tuned_rho
from immr.readout.user_moments import RatioMoments, aggregates_of, rate_difference

POSITIONS = 5
Z = norm.ppf(0.975)


def experiment(challenger_weight: float = 0.5) -> Experiment:
    return Experiment(
        "test",
        "salt",
        (
            Variant("champion", "http://a:1", "immr-1", 1 - challenger_weight),
            Variant("challenger", "http://b:1", "immr-2", challenger_weight),
        ),
    )


def simulated(rng: np.random.Generator, users: int, lift: float = 0.0, share: float = 0.5) -> pa.Table:
    """Users with 1 to 9 queries and individual click rates; `lift` is the challenger's."""
    challenged = rng.random(users) < share
    queries = rng.integers(1, 10, users)
    rate = rng.beta(0.8, 3.2, users) * np.where(challenged, 1 + lift, 1)
    user = np.repeat(np.arange(users), queries * POSITIONS)
    clicked = rng.random(len(user)) < rate[user]
    return pa.table(
        {
            "query_id": np.repeat(np.arange(queries.sum()), POSITIONS),
            "user_id": pa.array(user),
            "variant": np.where(challenged, "challenger", "champion")[user],
            "model_version": np.where(challenged, "immr-2", "immr-1")[user],
            "clicked": clicked,
            "ordered": clicked & (rng.random(len(user)) < 0.1),
        }
    )


def by_hand(clicks: dict[str, list[list[int]]]) -> pa.Table:
    """Per variant, per user: the clicks (of 4 impressions) of each query."""
    rows: list[dict[str, Any]] = []
    for variant, users in clicks.items():
        for user, queries in enumerate(users):
            for query, clicked in enumerate(queries):
                for position in range(4):
                    rows.append(
                        {
                            "query_id": f"{variant}-{user}-{query}",
                            "user_id": f"{variant}-{user}",
                            "variant": variant,
                            "model_version": {"champion": "immr-1", "challenger": "immr-2"}[variant],
                            "clicked": position < clicked,
                            "ordered": position < clicked - 1,
                        }
                    )
    return pa.Table.from_pylist(rows)


CLUMPED = simulated(np.random.default_rng(21), 1000)
SMALL = by_hand({"champion": [[1, 0], [2], [0, 0, 1]], "challenger": [[2, 1], [3], [0, 2, 1], [1]]})


def searches(rows: list[tuple[str, str, str, bool]]) -> pa.Table:
    names = ["query_id", "user_id", "variant", "fallback"]
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    versions = [{"champion": "immr-1", "challenger": "immr-2"}[row[2]] for row in rows]
    return table.append_column("model_version", pa.array(versions))


def delta_method(numerators: list[float], denominators: list[float]) -> tuple[float, float]:
    """Ratio of means and its variance, from the linearized ratio of each user."""
    x, y = np.array(numerators), np.array(denominators)
    ratio = x.mean() / y.mean()
    linearized = (x - ratio * y) / y.mean()
    return ratio, linearized.var(ddof=1) / len(x)


def test_counts_by_variant() -> None:
    champion, challenger = readout(SMALL, experiment()).variants
    assert (champion.name, champion.model_version, champion.users) == ("champion", "immr-1", 3)
    assert (champion.queries, champion.queries_with_click) == (6, 3)
    assert (champion.impressions, champion.clicks, champion.orders) == (24, 4, 1)
    assert (challenger.users, challenger.queries, challenger.impressions) == (4, 7, 28)
    assert (challenger.clicks, challenger.queries_with_click) == (10, 6)
    assert champion.ctr is not None
    assert champion.ctr_per_query is not None
    assert champion.ctr.value == pytest.approx(4 / 24)
    assert champion.ctr_per_query.value == pytest.approx(3 / 6)


def error_if_equal(*sides: tuple[list[float], list[float]]) -> float:
    """Standard error of the difference with the users of both variants pooled, as if the variants were equal."""
    rate = sum(sum(clicks) for clicks, _ in sides) / sum(sum(shown) for _, shown in sides)
    off = [np.array(clicks) - rate * np.array(shown) for clicks, shown in sides]
    square = sum(len(each) * (each.var(ddof=1) + each.mean() ** 2) for each in off) / sum(map(len, off))
    return math.sqrt(square * sum(1 / (len(shown) * np.mean(shown) ** 2) for _, shown in sides))


def test_ctr_difference_is_the_delta_method_by_hand() -> None:
    """The errors are the larger ones, of the pooled users: with each variant's own, few users look too alike."""
    sides = ([1, 2, 1], [8, 4, 12]), ([3, 3, 3, 1], [8, 4, 12, 4])
    (a, var_a), (b, var_b) = (delta_method(*side) for side in sides)
    error = error_if_equal(*sides)
    wider = error / math.sqrt(var_a + var_b)
    assert wider > 1
    found = readout(SMALL, experiment())
    assert found.ctr is not None
    assert found.ctr.difference == pytest.approx(b - a)
    assert found.ctr.interval.low == pytest.approx(b - a - Z * error)
    assert found.ctr.interval.high == pytest.approx(b - a + Z * error)
    assert found.ctr.p_value == pytest.approx(2 * norm.sf((b - a) / error))
    log_error = wider * math.sqrt(var_a / a**2 + var_b / b**2)
    assert found.ctr.relative_lift == pytest.approx(b / a - 1)
    assert found.ctr.relative_interval is not None
    assert found.ctr.relative_interval.low == pytest.approx(b / a * math.exp(-Z * log_error) - 1)
    champion = found.variants[0].ctr
    assert champion is not None
    assert champion.interval is not None
    effective = 24**2 / (
        8**2 + 4**2 + 12**2 + (8**2 + 4**2 + 12**2 - 24**2 / 3) / 2
    )  # with the variance over n − 1
    assert champion.interval.high == pytest.approx(a + student.ppf(0.975, effective - 1) * math.sqrt(var_a))


def test_always_valid_intervals_are_narrowest_at_the_planned_users() -> None:
    found = readout(CLUMPED, replace(experiment(), planned_users=400)).ctr
    assert found is not None
    error = (found.interval.high - found.interval.low) / 2 / Z  # many users, so both errors nearly agree
    half = always_valid_half_width(error, 1000, tuned_rho(400, 0.05), 0.05)
    assert found.always_valid.high - found.difference == pytest.approx(half, rel=0.02)
    assert found.always_valid.high - found.difference >= half
    assert found.standard_error == pytest.approx(error, rel=0.02)


def test_ctr_per_user_counts_each_user_the_same() -> None:
    found = readout(SMALL, experiment()).arms[0].ctr_per_user
    assert found is not None
    assert found.champion == pytest.approx(np.mean([1 / 8, 2 / 4, 1 / 12]))
    assert found.challenger == pytest.approx(np.mean([3 / 8, 3 / 4, 3 / 12, 1 / 4]))


def test_ctr_per_query_is_the_delta_method_by_hand() -> None:
    sides = ([1, 1, 1], [2, 1, 3]), ([2, 1, 2, 1], [2, 1, 3, 1])
    (a, var_a), (b, var_b) = (delta_method(*side) for side in sides)
    error = max(math.sqrt(var_a + var_b), error_if_equal(*sides))
    found = readout(SMALL, experiment()).arms[0].ctr_per_query
    assert found is not None
    assert found.difference == pytest.approx(b - a)
    assert found.interval.low == pytest.approx(b - a - Z * error)


def test_aggregates_agree_with_tea_tastings_own() -> None:
    import tea_tasting as tt

    table = simulated(np.random.default_rng(7), 500, lift=0.2)
    users = table.group_by(["variant", "user_id"]).aggregate([("clicked", "sum"), ("clicked", "count")])
    tested = tt.Experiment(
        ctr=tt.RatioOfMeans("clicked_sum", "clicked_count", use_t=False), variant="variant"
    )
    theirs = tested.analyze(users, control="champion")["ctr"]
    ours = readout(table, experiment()).ctr
    assert ours is not None
    assert (ours.champion, ours.challenger) == pytest.approx((theirs.control, theirs.treatment))
    assert ours.interval.low == pytest.approx(theirs.effect_size_ci_lower, rel=0.01)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=0.01)


def test_order_of_rows_does_not_matter() -> None:
    table = simulated(np.random.default_rng(1), 100)
    shuffled = table.take(np.random.default_rng(2).permutation(table.num_rows))
    one, other = readout(table, experiment()).ctr, readout(shuffled, experiment()).ctr
    assert one is not None
    assert other is not None
    assert one.interval.low == pytest.approx(other.interval.low)


def test_zero_result_queries_count_where_searches_are_known() -> None:
    asked = searches([("champion-0-0", "champion-0", "champion", False), ("empty", "new", "champion", False)])
    champion = readout(SMALL, experiment(), asked).variants[0]
    assert (champion.users, champion.queries, champion.queries_with_click, champion.impressions) == (
        4,
        7,
        3,
        24,
    )


def fallbacks(queries: dict[str, str]) -> tuple[pa.Table, pa.Table]:
    """SMALL, in which the champion answered these queries of the challenger's users; and their searches."""
    column = SMALL.column_names.index("model_version")
    asked = SMALL["query_id"].to_pylist()
    versions = [
        "immr-1" if query in queries else SMALL["model_version"][n].as_py() for n, query in enumerate(asked)
    ]
    rows = [(query, user, "challenger", True) for query, user in queries.items()]
    answered = searches(rows).set_column(4, "model_version", pa.array(["immr-1"] * len(rows)))
    return SMALL.set_column(column, "model_version", [versions]), answered


def test_fallbacks_count_for_the_assigned_variant_and_are_also_reported_without() -> None:
    """Intention to treat: a challenger that fails on hard photos must not be compared without them."""
    shown, asked = fallbacks({"challenger-0-1": "challenger-0"})
    found = readout(shown, experiment(), asked)
    assert (found.fallback_queries, found.foreign_queries) == (1, 0)
    challenger = found.variants[1]
    assert (challenger.queries, challenger.clicks) == (7, 10)
    assert found.ctr is not None
    assert found.ctr.challenger == pytest.approx(10 / 28)
    assert found.arms[0].secondary["CTR without fallbacks"].challenger == pytest.approx(9 / 24)


def test_fallbacks_of_hard_photos_do_not_look_like_a_lift() -> None:
    """The challenger fails on every tenth photo, which nobody would click anyway: its clicks are the same."""
    table = simulated(np.random.default_rng(17), 1500)
    hard = np.isin(table["query_id"].to_numpy() % 10, (0,))
    table = table.set_column(4, "clicked", pa.array(table["clicked"].to_numpy() & ~hard))
    fell_back = hard & (table["variant"].to_numpy(zero_copy_only=False) == "challenger")
    versions = np.where(fell_back, "immr-1", table["model_version"].to_numpy(zero_copy_only=False))
    shown = table.set_column(3, "model_version", pa.array(versions))
    asked = pa.table({name: shown[name] for name in ("query_id", "user_id", "variant", "model_version")})
    asked = asked.append_column("fallback", pa.array(fell_back)).take(np.arange(0, shown.num_rows, POSITIONS))
    same, found = readout(table, experiment()).ctr, readout(shown, experiment(), asked)
    assert same is not None and found.ctr is not None
    assert found.ctr.difference == pytest.approx(same.difference)
    assert found.arms[0].secondary["CTR without fallbacks"].difference > found.ctr.difference + 0.01


def test_answers_of_other_versions_are_left_out() -> None:
    column = SMALL.column_names.index("model_version")
    versions = ["immr-0" if n < 4 else value.as_py() for n, value in enumerate(SMALL["model_version"])]
    found = readout(SMALL.set_column(column, "model_version", [versions]), experiment())
    assert found.foreign_queries == 1
    assert found.variants[0].queries == 5


def test_users_seen_in_both_variants_are_counted() -> None:
    column = SMALL.column_names.index("user_id")
    users = [name.as_py().replace("challenger-0", "champion-0") for name in SMALL["user_id"]]
    assert readout(SMALL.set_column(column, "user_id", [users]), experiment()).users_in_both == 1
    assert readout(SMALL, experiment()).users_in_both == 0


def test_sample_ratio_mismatch_withholds_the_comparison() -> None:
    table = simulated(np.random.default_rng(3), 1000, share=0.4)
    found = readout(table, experiment(0.5))
    assert found.sample_ratio is not None
    assert not found.sample_ratio.ok
    assert (found.ctr, found.arms) == (None, ())
    assert found.withheld is not None
    assert "Likely causes" in found.withheld
    assert readout(table, experiment(0.4)).withheld is None


def test_users_of_a_variant_without_weight_are_a_mismatch() -> None:
    found = readout(SMALL, experiment(0.0))
    assert found.sample_ratio is not None
    assert (found.sample_ratio.p_value, found.sample_ratio.ok) == (0.0, False)
    assert found.ctr is None


def test_a_champion_alone_has_a_ctr_but_no_comparison() -> None:
    alone = Experiment("test", "s", (Variant("champion", "http://a:1", "immr-1", 1.0),))
    found = readout(SMALL, alone)
    assert found.variants[0].ctr is not None
    assert found.sample_ratio is None
    assert found.withheld is not None
    assert "no challenger" in found.withheld


def empty() -> pa.Table:
    return SMALL.slice(0, 0)


def one_sided() -> pa.Table:
    return SMALL.slice(0, 24)


def no_clicks() -> pa.Table:
    return by_hand({"champion": [[0], [0]], "challenger": [[0], [0]]})


@pytest.mark.parametrize(
    ("table", "sentence"),
    [(empty, "no users"), (one_sided, "no users"), (no_clicks, "click alike")],
)
def test_too_little_data_withholds_the_comparison(table: Callable[[], pa.Table], sentence: str) -> None:
    found = readout(table(), experiment())
    assert found.ctr is None
    assert found.withheld is not None
    assert sentence in found.withheld
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("silent", ["champion", "challenger"])
def test_variant_without_any_click_is_still_compared(silent: str) -> None:
    clicks = {"champion": [[1], [2], [0]], "challenger": [[1], [2], [0]]}
    found = readout(by_hand(clicks | {silent: [[0], [0], [0]]}), experiment())
    assert found.ctr is not None
    assert found.ctr.difference == pytest.approx(0.25 if silent == "champion" else -0.25)
    assert found.ctr.relative_interval is None
    assert found.ctr.relative_lift == (None if silent == "champion" else pytest.approx(-1))
    json.dumps(found.to_json(), allow_nan=False)


def test_without_variance_there_is_no_interval() -> None:
    found = readout(by_hand({"champion": [[4], [4]], "challenger": [[4], [3]]}), experiment())
    champion = found.variants[0].ctr
    assert champion is not None
    assert (champion.value, champion.interval) == (1.0, None)


def test_readout_is_plain_json() -> None:
    found = readout(SMALL, experiment())
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["arms"][0]["ctr"]["metric"] == "CTR"


def test_printed_rows_have_the_same_width() -> None:
    header, champion, challenger, difference, always = as_rows(readout(SMALL, experiment()))
    assert {len(row) for row in (champion, challenger, difference, always)} == {len(header)}
    assert champion[:4] == ("champion", "immr-1", "3", "6")
    assert champion[7].startswith("16.67% (")
    assert difference[7].startswith("+19.05 points (-10.27 – ")
    assert always[7] == "+19.05 points (-100.00 – +100.00)"
    assert as_rows(readout(empty(), experiment()))[1][-2:] == ("–", "–")
    assert len(as_rows(readout(empty(), experiment()))) == 3


def test_invalid_input_is_explained() -> None:
    with pytest.raises(ExperimentError, match="no column user_id"):
        readout(SMALL.drop_columns(["user_id"]), experiment())
    with pytest.raises(ExperimentError, match="no column fallback"):
        readout(SMALL, experiment(), searches([("q", "u", "champion", False)]).drop_columns(["fallback"]))
    with pytest.raises(ExperimentError, match="between 0 and 1"):
        readout(SMALL, experiment(), confidence=95)


def compared(table: pa.Table) -> tuple[Comparison, Comparison]:
    """CTR with users as the unit, as in the readout, and with each impression as a separate user."""
    names, clicked = table["variant"].to_numpy(zero_copy_only=False), table["clicked"].to_numpy()
    users = table["user_id"].to_numpy()

    def sides(unit: Any) -> Comparison:
        sums = []
        for name in ("champion", "challenger"):
            mine = names == name
            _, of = np.unique(unit[mine], return_inverse=True)
            sums.append(
                aggregates_of({"clicks": np.bincount(of, clicked[mine]), "impressions": np.bincount(of)})
            )
        found = compare(CTR, *sums)
        assert found is not None
        return found

    return sides(users), sides(np.arange(len(users)))


def clumped_users(rng: np.random.Generator, users: int, looks: int = 1) -> tuple[Any, Any, Any]:
    """Challenged (U,), and searches and clicks so far (L, U), of users with individual click rates."""
    challenged_U = rng.random(users) < 0.5
    searches_LU = rng.multinomial(rng.integers(1, 10, users), np.full(looks, 1 / looks)).T
    clicks_LU = rng.binomial(searches_LU * POSITIONS, rng.beta(0.8, 3.2, users))
    return challenged_U, searches_LU.cumsum(axis=0), clicks_LU.cumsum(axis=0)


def moments_by_variant(challenged_U: Any, searches_U: Any, clicks_U: Any) -> list[RatioMoments]:
    there_U = searches_U > 0
    return [
        RatioMoments.of_users(clicks_U[of], POSITIONS * searches_U[of])
        for of in (~challenged_U & there_U, challenged_U & there_U)
    ]


def test_equal_versions_differ_at_the_nominal_rate() -> None:
    """400 A/A tests with clumped users: the interval over users is wrong in about 5 % of them."""
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(400):
        challenged_U, searches_1U, clicks_1U = clumped_users(rng, 300)
        difference, error = rate_difference(*moments_by_variant(challenged_U, searches_1U[0], clicks_1U[0]))
        wrong += bool(abs(difference) > Z * error)
    assert 7 <= wrong <= 33  # 20 expected, three standard deviations


def test_impressions_as_the_unit_err_far_more_often() -> None:
    rng = np.random.default_rng(12)
    wrong = sum(compared(simulated(rng, 300))[1].p_value < 0.05 for _ in range(20))
    assert wrong >= 5


def test_the_readout_compares_the_same_sums() -> None:
    table = simulated(np.random.default_rng(4), 300)
    found = readout(table, experiment()).ctr
    assert found is not None
    assert found.interval.low == pytest.approx(compared(table)[0].interval.low)


def test_strong_lift_is_found() -> None:
    found = readout(simulated(np.random.default_rng(5), 2000, lift=0.4), experiment())
    assert found.ctr is not None
    assert found.ctr.always_valid.low > 0
    assert found.ctr.relative_interval is not None
    assert found.ctr.relative_interval.low < 0.4 < found.ctr.relative_interval.high


def test_looking_often_keeps_the_error_rate() -> None:
    """200 A/A tests with 11 looks each, while users come back."""
    rng = np.random.default_rng(13)
    erred = 0
    for _ in range(200):
        challenged_U, searches_LU, clicks_LU = clumped_users(rng, 400, looks=12)
        for searches_U, clicks_U in zip(searches_LU[1:], clicks_LU[1:], strict=True):
            difference, error = rate_difference(*moments_by_variant(challenged_U, searches_U, clicks_U))
            if abs(difference) > Look(planned_users=400).always_valid(
                float(error), int((searches_U > 0).sum())
            ):
                erred += 1
                break
    assert erred <= 10


def test_intervals_of_several_challengers_hold_together() -> None:
    """With three, each is that of 1 − 0.05 / 3; one that has left early is compared no more, also after the test."""
    rng = np.random.default_rng(5)
    table = simulated(rng, 4000)
    arms = pa.array(rng.choice(["challenger", "challenger-2", "challenger-3"], 4000))
    renamed = pc.if_else(
        pc.equal(table["variant"], "champion"), "champion", arms.take(table["user_id"].combine_chunks())
    )
    table = table.set_column(table.schema.get_field_index("variant"), "variant", renamed)
    names = ("challenger", "challenger-2", "challenger-3")
    sides = [Variant(name, "http://b:1", "immr-2", 1 / 6) for name in names]
    several = Experiment("test", "salt", (Variant("champion", "http://a:1", "immr-1", 0.5), *sides))
    found = readout(table, several)
    assert [arm.variant for arm in found.arms] == [*names]
    [alone] = readout(
        table,
        replace(several, variants=(replace(several.champion, weight=0.75), replace(sides[1], weight=0.25))),
    ).arms
    both = found.arm("challenger-2")
    assert both is not None and both.ctr is not None and alone.ctr is not None
    assert both.ctr.difference == pytest.approx(alone.ctr.difference)
    widths = [each.interval.high - each.interval.low for each in (both.ctr, alone.ctr)]
    z = NormalDist().inv_cdf
    assert widths[0] / widths[1] == pytest.approx(z(1 - 0.05 / 6) / z(1 - 0.025))
    left = replace(several, variants=(several.champion, sides[0], replace(sides[1], ended=True), sides[2]))
    assert [arm.variant for arm in readout(table, left).arms] == ["challenger", "challenger-3"]
    assert readout(table, left).sample_ratio is not None
    over = readout(table, replace(left, state="stopped"))
    assert [arm.variant for arm in over.arms] == ["challenger", "challenger-3"]
