"""Chooses photos to hold out when the data include no judgements. (ours)

Whole users are held out, if possible after the end of training (`periods`), and no training photo may be near
a held-out one: a model that has seen the neighbouring shot of the same shelf answers from memory, and recall
looks better than it is. If both sides have photos of one scene, one side drops them: training as long as the
recipe allows, otherwise the held-out side.

Shapes: N photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from immr.data.training_set import HELD_OUT
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import Bools, Ints
from immr.governance.labels.principal_components import compact
from immr.governance.splits.periods import DAY_US, periods
from immr.governance.splits.scenes import scenes
from immr.governance.splits.sessions import microseconds, numbered
from immr.types import FloatArray

USER_HELD_OUT = "its user is held out"
NEAR_HELD_OUT = "near a photo held out for judgement"
AFTER_TRAINING = "too late for training: taken on the days of held-out photos, or in the gap before them"
SCHEMA = pa.schema({"query_id": pa.string(), "side": pa.string()})


@dataclass(frozen=True)
class Sides:
    """Which photos are held out."""

    table: pa.Table  # query_id, side: HELD_OUT, why a photo is in neither, or empty for training photos
    days_after: tuple[float, float] | None  # the first and the last held-out photo, after training ends

    @property
    def when(self) -> str:
        """When the held-out photos were taken, for people."""
        if self.days_after is None:
            return "on the same days as training photos, so changes over time do not count"
        first, last = self.days_after
        return f"{first:.1f} to {last:.1f} days after the last training photo"


def sides(photos: pa.Table, features_NF: FloatArray | None, recipe: GovernanceRecipe) -> Sides:
    """Divide the photos into held-out ones, training photos and those in neither.

    Args:
        photos: query_id, user_id, ts, image_sha256, class_id and `settled` (whether its clicks agree), in
            query_id order.
        features_NF: their embeddings; without them, only photos with the same content count as near.
        recipe: the fields `held_out_…`.
    """
    class_N, time_N = photos["class_id"].to_numpy(), microseconds(photos["ts"])
    settled_N = np.asarray(photos["settled"]).astype(bool)
    chosen = periods(photos["user_id"], time_N, settled_N, recipe)
    held_N, learn_N = chosen.held_user_N & chosen.late_N, ~chosen.held_user_N & chosen.early_N
    content_N = numbered(photos["image_sha256"])
    if features_NF is None:
        scene_N = content_N
    else:
        x_NF, _ = compact(features_NF, len(np.unique(class_N)))
        # after a gap, photos that are merely alike show what later searches will show, too
        reach = recipe.near_copy_reach if chosen.after_training else recipe.held_out_reach
        scene_N = scenes(x_NF, class_N, reach, content_N)
    most_lost = round(recipe.held_out_near_share * len(class_N))
    judged_scene = _scenes_to_judge(scene_N, class_N, held_N, learn_N, most_lost)
    judged_N = held_N & settled_N & judged_scene[scene_N]
    near_N = learn_N & np.isin(scene_N, scene_N[judged_N])
    side = np.select(
        [judged_N, chosen.held_user_N, near_N, ~learn_N],
        [HELD_OUT, USER_HELD_OUT, NEAR_HELD_OUT, AFTER_TRAINING],
        "",
    )
    days_after = None
    if chosen.after_training and judged_N.any():
        first, last = time_N[judged_N].min(), time_N[judged_N].max()
        end = time_N[learn_N].max()
        days_after = round(float(first - end) / DAY_US, 2), round(float(last - end) / DAY_US, 2)
    return Sides(pa.table({"query_id": photos["query_id"], "side": side.tolist()}, schema=SCHEMA), days_after)


def _scenes_to_judge(scene_N: Ints, class_N: Ints, held_N: Bools, learn_N: Bools, most_lost: int) -> Bools:
    """Whether a scene's held-out photos are kept for evaluation: first those that cost training the fewest photos.

    A scene with most of its class's training photos is never kept: there, the whole class looks alike.
    """
    held, lost = np.bincount(scene_N, held_N), np.bincount(scene_N, learn_N)
    class_of = np.zeros(len(held), np.int64)
    class_of[scene_N] = class_N
    candidates = np.flatnonzero((held > 0) & (2 * lost <= np.bincount(class_N, learn_N)[class_of]))
    order = candidates[np.argsort(lost[candidates] / held[candidates], kind="stable")]
    chosen = order[np.cumsum(lost[order]) <= most_lost]
    judged = np.zeros(len(held), bool)
    judged[chosen] = True
    return judged
