"""Does recall on held-out photos tell what shoppers will see? Two worlds whose truth is known.

    python -m benchmarks.governance --world held-out
    python -m benchmarks.governance --world drift

held-out: users drawn at random; a linear classifier on frozen features is scored on the photos that governance
    holds out and on photos of other shops (`val`).
drift: a log of 120 days, and the 14 days after it, which are the truth. Photos are drawn around the centres of
    grocery's classes with twice grocery's spread within classes. What a product looks like (its shelf, light, batch)
    wanders around its centre, as far as its photos differ, and forgets half of it in so many days
    (Ornstein-Uhlenbeck process). Half of the photos are by users who come once, the rest by regulars, each with
    a camera of its own. Labels are right.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import Ints, power_normalised
from immr.governance.splits import held_out
from immr.types import FloatArray

RECIPE = GovernanceRecipe()
SEED = 0
DIMENSIONS = 128
LOG_DAYS, LATER_DAYS, PHOTOS_A_DAY = 120, 14, 100
WORLDS = {"still": 0.0, "half-life 60 days": 60.0, "half-life 10 days": 10.0, "half-life 2 days": 2.0}
SPREAD = 2.0  # as many times grocery's, so that recall is not near 1
AFTER_A_GAP, ALL_DAYS, NEAR_COPIES = "after a gap", "users of all days", "users of all days, near copies only"
RULES = {
    AFTER_A_GAP: RECIPE,
    ALL_DAYS: replace(RECIPE, held_out_gap_days=0.0),  # what small or short logs get
    NEAR_COPIES: replace(RECIPE, held_out_gap_days=0.0, held_out_reach=RECIPE.near_copy_reach),
}


@dataclass(frozen=True)
class HoldOut:
    """What one way of holding out reports, beside the truth; mean over the logs."""

    world: str
    rule: str
    training_photos: float
    held_out_photos: float
    reported_recall: float
    true_recall: float
    reported_minus_true_recall: float
    standard_error: float


@dataclass(frozen=True)
class _Log:
    features_NF: FloatArray
    class_N: Ints
    day_N: FloatArray
    users: list[str]


def other_shops(x_NF: FloatArray, truth_N: Ints, judged_NF: FloatArray, judged_N: Ints) -> dict[str, float]:
    """Recall@1 on held-out photos, minus that on photos of other shops."""
    users = [f"u{user}" for user in np.random.default_rng(SEED).integers(0, 400, len(truth_N))]
    photos = _table(users, np.zeros(len(truth_N)), truth_N)
    side_N = np.array(held_out.sides(photos, x_NF, RECIPE).table["side"].to_pylist())
    reported, true = _recalls(side_N, x_NF, truth_N, judged_NF, judged_N)
    return {
        "held_out_photos": int((side_N == held_out.HELD_OUT).sum()),
        "training_photos": int((side_N == "").sum()),
        "reported_recall": reported,
        "true_recall": true,
        "reported_minus_true_recall": reported - true,
    }


def drift(x_NF: FloatArray, truth_N: Ints, logs: int = 2) -> dict[str, object]:
    """Each rule's figures in a shop where nothing changes and in those that drift; prints a table."""
    found = []
    for world, half_life_days in WORLDS.items():
        measured: dict[str, list[tuple[float, ...]]] = {rule: [] for rule in RULES}
        for seed in range(logs):
            log = _log(x_NF, truth_N, half_life_days, np.random.default_rng([SEED, seed]))
            for rule, recipe in RULES.items():
                measured[rule].append(_measured(log, recipe))
        for rule, rows in measured.items():
            values = np.array(rows)
            errors = values[:, 2] - values[:, 3]
            spread = float(errors.std(ddof=1) / np.sqrt(logs))
            found.append(HoldOut(world, rule, *values.mean(axis=0).tolist(), float(errors.mean()), spread))
    _show(found, logs)
    fast = {one.rule: one.reported_minus_true_recall for one in found if one.world == list(WORLDS)[-1]}
    return {
        "hold_outs": [asdict(one) for one in found],
        "drift_reported_minus_true_recall": fast[AFTER_A_GAP],
        "drift_reported_minus_true_recall_without_gap": fast[NEAR_COPIES],
    }


def _log(x_NF: FloatArray, truth_N: Ints, half_life_days: float, rng: np.random.Generator) -> _Log:
    """LOG_DAYS of photos, then LATER_DAYS, in the order of time."""
    x_NF = x_NF.astype(np.float64)
    moved_NF = x_NF - x_NF.mean(axis=0)
    basis_FK = np.linalg.eigh(moved_NF.T @ moved_NF)[1][:, -DIMENSIONS:]
    x_NK = moved_NF @ basis_FK
    classes = int(truth_N.max()) + 1
    centre_CK = np.stack([x_NK[truth_N == one].mean(axis=0) for one in range(classes)])
    within_NK = x_NK - centre_CK[truth_N]
    spread_KK = np.linalg.cholesky(within_NK.T @ within_NK / len(x_NK) + 1e-9 * np.eye(DIMENSIONS))

    def drawn(count: int) -> FloatArray:
        values: FloatArray = SPREAD * rng.standard_normal((count, DIMENSIONS)) @ spread_KK.T
        return values

    days = LOG_DAYS + LATER_DAYS
    photos = days * PHOTOS_A_DAY
    day_N = np.sort(rng.uniform(0, days, photos))
    class_N = rng.integers(0, classes, photos)
    x_NK = centre_CK[class_N] + drawn(photos)
    if half_life_days:
        keeps = 0.5 ** (1 / half_life_days)
        look_CK = drawn(classes)
        for day in range(days):
            today_N = day_N.astype(int) == day
            x_NK[today_N] += look_CK[class_N[today_N]]
            look_CK = keeps * look_CK + np.sqrt(1 - keeps**2) * drawn(classes)
    regulars = 400
    user_N = np.where(
        rng.random(photos) < 0.5, rng.integers(0, regulars, photos), regulars + np.arange(photos)
    )
    camera_K = 0.3 * drawn(regulars)
    x_NK += np.where((user_N < regulars)[:, None], camera_K[np.minimum(user_N, regulars - 1)], 0)
    return _Log(x_NK.astype(np.float32), class_N, day_N, [f"u{user}" for user in user_N])


def _measured(log: _Log, recipe: GovernanceRecipe) -> tuple[float, ...]:
    """Training photos, held-out photos, reported recall, true recall."""
    past = int(np.searchsorted(log.day_N, LOG_DAYS))
    photos = _table(log.users[:past], log.day_N[:past], log.class_N[:past])
    side_N = np.array(held_out.sides(photos, log.features_NF[:past], recipe).table["side"].to_pylist())
    later_NF, later_N = log.features_NF[past:], log.class_N[past:]
    recalls = _recalls(side_N, log.features_NF[:past], log.class_N[:past], later_NF, later_N)
    return (side_N == "").sum(), (side_N == held_out.HELD_OUT).sum(), *recalls


def _recalls(
    side_N: np.ndarray, x_NF: FloatArray, class_N: Ints, true_NF: FloatArray, true_N: Ints
) -> tuple[float, float]:
    """Recall@1 of a linear classifier of the training photos: on held-out photos, and on the true ones."""
    from sklearn.linear_model import RidgeClassifier

    learn_N, held_N = side_N == "", side_N == held_out.HELD_OUT
    classifier = RidgeClassifier().fit(power_normalised(x_NF[learn_N]), class_N[learn_N])
    reported = float(classifier.score(power_normalised(x_NF[held_N]), class_N[held_N]))
    return reported, float(classifier.score(power_normalised(true_NF), true_N))


def _table(users: list[str], day_N: FloatArray, class_N: Ints) -> pa.Table:
    rows = len(users)
    return pa.table(
        {
            "query_id": [f"q{row:06d}" for row in range(rows)],
            "user_id": users,
            "ts": pa.array((day_N * 86_400_000_000).astype(np.int64)).cast(pa.timestamp("us")),
            "image_sha256": [f"{row:064x}" for row in range(rows)],
            "class_id": class_N,
            "settled": np.ones(rows, bool),
        }
    )


def _show(found: list[HoldOut], logs: int) -> None:
    table = Table(title=f"held-out photos and the {LATER_DAYS} days after the log, means of {logs} logs")
    for column in ("world", "held out are", "training", "held out", "reported", "true", "reported − true"):
        table.add_column(column, justify="left" if column in ("world", "held out are") else "right")
    for one in found:
        table.add_row(
            one.world,
            one.rule,
            f"{one.training_photos:,.0f}",
            f"{one.held_out_photos:,.0f}",
            f"{one.reported_recall:.3f}",
            f"{one.true_recall:.3f}",
            f"{one.reported_minus_true_recall:+.3f} ± {one.standard_error:.3f}",
        )
    Console(width=130).print(table)
