"""Content hashes of the training set's pictures; each rank reads its share of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from immr.errors import DataError
from immr.model.features.image_features import Share, image_hashes
from immr.train.world import World


def shared_hashes(
    uris: Sequence[str], world: World, optional: Sequence[str] = (), known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """URI → SHA-256 of the picture's content, the same on all ranks, which call it together.

    Args:
        uris: pictures that must be there.
        world: this rank.
        optional: additional pictures; those that cannot be read are left out.
        known: hashes that are known already, the same on all ranks; these pictures are not read.

    Raises:
        DataError: one of `uris` cannot be read.
    """
    wanted = {*uris, *filter(None, optional)}
    found = {uri: known[uri] for uri in wanted if uri in known} if known else {}
    mine = Share(world.rank, world.size).of(wanted - found.keys())
    for part in world.gather(_readable(mine)):
        found |= part
    return found | image_hashes([uri for uri in uris if uri not in found])


def _readable(uris: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for uri in uris:
        try:
            found |= image_hashes([uri])
        except DataError:  # whoever needs it reads it again, and reports it
            continue
    return found
