"""Separates training photos from held-out photos and classes."""

from __future__ import annotations

import math
from typing import Any

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.workspace import Workspace


def unseen_classes(workspace: Workspace, item_classes: Any, recipe: GovernanceRecipe) -> Any:
    """Table (class_id): classes kept out of training, to measure recall of items that training never saw.

    Chosen by the hash of a class's first item, so that new items elsewhere do not change the choice. At
    least one class is left to train on.
    """
    import ibis

    named = item_classes.group_by("class_id").aggregate(item_id=item_classes.item_id.min())
    count = workspace.rows(named)
    unseen = min(math.ceil(count * recipe.unseen_class_share), count - 1)
    by_hash = ibis.window(order_by=[named.item_id.hexdigest("md5"), named.item_id])
    ranked = named.mutate(place=ibis.row_number().over(by_hash))
    return workspace.keep(ranked.filter(ranked.place < unseen).select("class_id"))


def verdicts(labelled: Any, judgements: Any, sides: Any | None, unseen: Any) -> Any:
    """`labelled` with `reason`: empty for training photos, otherwise why a photo is left out.

    Args:
        labelled: query_id, image_sha256, class_id.
        judgements: image_sha256 of the held-out photos.
        sides: (query_id, side) as `held_out.sides` gives it; None if the data include judgements.
        unseen: class_id of classes kept out of training.
    """
    import ibis

    judged_photos = judgements.select(photo="image_sha256").distinct()
    joined = labelled.left_join(judged_photos, labelled.image_sha256 == judged_photos.photo)
    unseen_ids = unseen.select(unseen_id="class_id")
    joined = joined.left_join(unseen_ids, joined.class_id == unseen_ids.unseen_id)
    side = ibis.literal("")
    if sides is not None:
        joined = joined.left_join(
            sides.select(side_id="query_id", side="side"), joined.query_id == sides.query_id
        )
        side = joined.side
    same_photo = joined.photo.notnull() & (joined.photo != "")
    reason = ibis.cases(
        (joined.unseen_id.notnull(), "its class is held out as unseen"),
        (side != "", side),
        (same_photo, "same photo as a judgement"),
        else_="",
    )
    return joined.mutate(reason=reason)
