"""What is learned from and what is judged by, without a photo in both."""

from __future__ import annotations

import math
from typing import Any

from immr.governance.governance_recipe import GovernanceRecipe
from immr.governance.workspace import Workspace


def newest_of_some_users(workspace: Workspace, labelled: Any, recipe: GovernanceRecipe) -> Any:
    """Labelled queries to hold out: the newer half of each user's, for a share of users chosen by hash.

    The hash makes the choice the same on every engine and every day. At least one user is held out unless the
    share is 0 or there is no other user to learn from.
    """
    import ibis

    users = labelled.select("user_id").distinct()
    count = workspace.rows(users)
    held_users = min(math.ceil(count * recipe.held_out_share), count - 1)
    ranked = users.mutate(
        place=ibis.row_number().over(ibis.window(order_by=[users.user_id.hexdigest("md5"), users.user_id]))
    )
    theirs = labelled.semi_join(ranked.filter(ranked.place < held_users), "user_id")
    newest_first = ibis.window(group_by=theirs.user_id, order_by=[theirs.ts.desc(), theirs.query_id])
    theirs = theirs.mutate(
        age=ibis.row_number().over(newest_first), all=theirs.query_id.count().over(group_by=theirs.user_id)
    )
    return theirs.filter(theirs.age * 2 < theirs["all"]).drop("age", "all")


def unseen_classes(workspace: Workspace, item_classes: Any, recipe: GovernanceRecipe) -> Any:
    """Table (class_id): classes that no photo is learned from, so that judgement knows unseen items.

    Chosen by the hash of a class's first item, so that the choice outlives new items elsewhere; at least one
    class is left to learn from.
    """
    import ibis

    named = item_classes.group_by("class_id").aggregate(item_id=item_classes.item_id.min())
    count = workspace.rows(named)
    unseen = min(math.ceil(count * recipe.unseen_class_share), count - 1)
    by_hash = ibis.window(order_by=[named.item_id.hexdigest("md5"), named.item_id])
    ranked = named.mutate(place=ibis.row_number().over(by_hash))
    return workspace.keep(ranked.filter(ranked.place < unseen).select("class_id"))


def verdicts(labelled: Any, judgements: Any, held_out: Any | None, unseen: Any) -> Any:
    """`labelled` with `reason`: empty for what is learned from, or why it is kept apart."""
    import ibis

    judged_photos = judgements.select(photo="image_sha256").distinct()
    joined = labelled.left_join(judged_photos, labelled.image_sha256 == judged_photos.photo)
    strange = unseen.select(unseen_id="class_id")
    joined = joined.left_join(strange, joined.class_id == strange.unseen_id)
    held = ibis.literal(False)
    if held_out is not None:
        joined = joined.left_join(held_out.select(held_id="query_id"), joined.query_id == held_out.query_id)
        held = joined.held_id.notnull()
    same_photo = joined.photo.notnull() & (joined.photo != "")
    reason = ibis.cases(
        (joined.unseen_id.notnull(), "its class is held out as unseen"),
        (held, "held out for judgement"),
        (same_photo, "same photo as a judgement"),
        else_="",
    )
    return joined.mutate(reason=reason)
