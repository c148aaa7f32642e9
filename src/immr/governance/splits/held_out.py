"""Chooses photos to hold out when the data include no judgements. (ours)

Whole users are held out, and no training photo may be near a held-out one: a model that has seen the
neighbouring shot of the same shelf answers from memory, and recall looks better than it is. If both sides
have photos of one scene, one side drops them: training as long as the recipe allows, otherwise the held-out
side.

Shapes: N photos.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from immr.data.training_set import HELD_OUT
from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.labels.class_scores import Bools, Ints, power_normalised
from immr.governance.labels.compact import compact
from immr.governance.splits.scenes import scenes
from immr.types import FloatArray

USER_HELD_OUT = "its user is held out"
NEAR_HELD_OUT = "near a photo held out for judgement"
SESSION_GAP_US = 30 * 60 * 1_000_000
SCHEMA = pa.schema({"query_id": pa.string(), "side": pa.string()})


def sides(photos: pa.Table, features_NF: FloatArray | None, recipe: GovernanceRecipe) -> pa.Table:
    """Table (query_id, side): HELD_OUT, USER_HELD_OUT, NEAR_HELD_OUT, or empty for training photos.

    Args:
        photos: query_id, image_sha256, class_id, `held_user` (whether its user is held out) and `settled`
            (whether its clicks agree), in query_id order.
        features_NF: their embeddings; without them, only photos with the same content count as near.
        recipe: `held_out_reach` and `held_out_near_share`.
    """
    class_N = photos["class_id"].to_numpy()
    held_user_N = np.asarray(photos["held_user"]).astype(bool)
    content_N = _numbered(photos["image_sha256"])
    if features_NF is None:
        scene_N = content_N
    else:
        seen_N1 = np.isfinite(features_NF).all(axis=1, keepdims=True)
        finite_NF = features_NF if seen_N1.all() else np.where(seen_N1, features_NF, 0)
        x_NF = compact(power_normalised(finite_NF), len(np.unique(class_N)))
        scene_N = scenes(x_NF, class_N, recipe.held_out_reach, content_N)
    judged_scene = _scenes_to_judge(scene_N, held_user_N, round(recipe.held_out_near_share * len(class_N)))
    judged_N = held_user_N & np.asarray(photos["settled"]).astype(bool) & judged_scene[scene_N]
    near_N = ~held_user_N & np.isin(scene_N, scene_N[judged_N])
    side = np.select([judged_N, held_user_N, near_N], [HELD_OUT, USER_HELD_OUT, NEAR_HELD_OUT], "")
    return pa.table({"query_id": photos["query_id"], "side": side.tolist()}, schema=SCHEMA)


def sessions(users: pa.ChunkedArray, times: pa.ChunkedArray) -> Ints:
    """(N,) session of each photo: one user's photos, each at most half an hour after the one before."""
    user_N = _numbered(users)
    time_N = times.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    order = np.lexsort((time_N, user_N))
    new = np.diff(user_N[order], prepend=-1) != 0
    new |= np.diff(time_N[order], prepend=time_N[order[:1]]) > SESSION_GAP_US
    session_N = np.empty(len(order), np.int64)
    session_N[order] = np.cumsum(new)
    return session_N


def _numbered(values: pa.ChunkedArray) -> Ints:
    """(N,) a number for each distinct value."""
    numbers: Ints = values.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return numbers


def _scenes_to_judge(scene_N: Ints, held_N: Bools, most_lost: int) -> Bools:
    """Whether a scene's held-out photos are kept for evaluation: first those that cost training the fewest photos."""
    held, lost = np.bincount(scene_N, held_N), np.bincount(scene_N, ~held_N)
    candidates = np.flatnonzero(held)
    order = candidates[np.argsort(lost[candidates] / held[candidates], kind="stable")]
    chosen = order[np.cumsum(lost[order]) <= most_lost]
    judged = np.zeros(len(held), bool)
    judged[chosen] = True
    return judged
