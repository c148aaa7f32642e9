"""Content hashes of the training set's pictures, for which the ranks share out the reading."""

from __future__ import annotations

from collections.abc import Sequence

from immr.errors import DataError
from immr.model.features.image_features import Share, image_hashes
from immr.train.world import World


def shared_hashes(uris: Sequence[str], world: World, optional: Sequence[str] = ()) -> dict[str, str]:
    """URI → SHA-256 of the picture's content, the same on all ranks, which call it together.

    Args:
        uris: pictures that must be there.
        world: this rank.
        optional: further pictures; those that cannot be read are left out.

    Raises:
        DataError: one of `uris` cannot be read.
    """
    mine = Share(world.rank, world.size).of({*uris, *filter(None, optional)})
    found = {uri: content for part in world.gather(_readable(mine)) for uri, content in part.items()}
    return found | image_hashes([uri for uri in uris if uri not in found])


def _readable(uris: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for uri in uris:
        try:
            found |= image_hashes([uri])
        except DataError:  # whoever needs it reads it again, and reports it
            continue
    return found
