"""A learned ranker: what trees add to the hand weights' score. `ranker.json` in a version's folder.

The trees were fitted on top of the hand weights (`immr.ranking`), so a ranker without trees ranks as they do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from immr.errors import RankingError
from immr.search.ranking import RankingRecipe
from immr.search.signals import signals
from immr.search.trees import Tree, Trees
from immr.storage.atomic import write_atomically
from immr.types import AttributeKind, Candidate, ItemFeatures

RANKER = "ranker.json"
_FORMAT = 1


@dataclass(frozen=True)
class Ranker:
    """Orders the candidates of photo searches.

    Attributes:
        attributes: the declared attributes among its signals.
        ranking: the hand weights that it adds to.
        unit: the size of a score: trees return multiples of it.
        trees: see `immr.search.signals.names` for their columns.
    """

    attributes: Mapping[str, AttributeKind]
    ranking: RankingRecipe
    unit: float
    trees: Trees

    def added(
        self,
        candidates: Sequence[Candidate],
        start: int,
        head: Sequence[Candidate],
        features: Mapping[str, ItemFeatures],
        now: datetime,
    ) -> dict[str, float]:
        """What the trees add to the hand weights' score, by item_id; see `immr.search.ranking.rank`.

        Args:
            candidates: by cosine, best first.
            start: how many candidates of the search come before these.
            head: see `signals`.
            features: by item_id.
            now: from which ages count.
        """
        first_ranks = range(start + 1, start + 1 + len(candidates))
        signals_NF = signals(candidates, first_ranks, head, features, now, self.attributes)
        added_N = (self.unit * self.trees.predict(signals_NF)).tolist()
        return {candidate.item_id: value for candidate, value in zip(candidates, added_N, strict=True)}

    def write(self, folder: Path) -> None:
        """Write `ranker.json` into a version's folder."""
        fields = {
            "format": _FORMAT,
            "attributes": dict(self.attributes),
            "ranking": asdict(self.ranking),
            "unit": self.unit,
            "trees": [asdict(tree) for tree in self.trees.trees],
        }
        write_atomically(folder / RANKER, json.dumps(fields))

    @classmethod
    def read(cls, folder: Path) -> Ranker | None:
        """The ranker of the version in `folder`, or None if it ranks by hand weights.

        Raises:
            RankingError: `ranker.json` has another format.
        """
        file = folder / RANKER
        if not file.is_file():
            return None
        try:
            fields: dict[str, Any] = json.loads(file.read_text())
            if fields["format"] != _FORMAT:
                raise ValueError(f"format {fields['format']}")
            return cls(
                attributes=fields["attributes"],
                ranking=RankingRecipe(**fields["ranking"]),
                unit=fields["unit"],
                trees=Trees([Tree(**tree) for tree in fields["trees"]]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise RankingError(f"{file} cannot be read ({error}): run `immr rank` again") from error
