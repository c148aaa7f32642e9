"""A learned ranker, `ranker.json` in a version's folder: what trees add to a score by hand-tuned weights.

The trees were fitted on top of the hand-tuned weights (`immr.ranking`), so a ranker without trees ranks as they do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from immr.errors import RankingError
from immr.search.personal_signals import Personal, personal_signals
from immr.search.ranking import RankingRecipe
from immr.search.signals import signals
from immr.search.trees import Tree, Trees
from immr.storage.atomic import write_atomically
from immr.types import AttributeKind, Candidate, ItemFeatures, UserFeatures

RANKER = "ranker.json"
_FORMAT = 1


@dataclass(frozen=True)
class Ranker:
    """Orders the candidates of photo searches.

    Attributes:
        attributes: the declared attributes among its signals.
        ranking: the hand-tuned weights that it adds to.
        unit: the size of a score: trees return multiples of it.
        trees: see `immr.search.signals.names` for their columns.
        personal: what it adds for users with recent clicks; None adds nothing.
    """

    attributes: Mapping[str, AttributeKind]
    ranking: RankingRecipe
    unit: float
    trees: Trees
    personal: Personal | None = None

    def applies_to(self, user: UserFeatures | None) -> bool:
        """Whether the ranker may change the order that the hand-tuned weights give this user's candidates."""
        personal = self.personal is not None and user is not None and user.items
        return bool(self.trees.trees or personal)

    def added(
        self,
        candidates: Sequence[Candidate],
        first_ranks: Sequence[int],
        head: Sequence[Candidate],
        features: Mapping[str, ItemFeatures],
        now: datetime,
        user: UserFeatures | None = None,
    ) -> dict[str, float]:
        """What the trees add to the hand-tuned weights' score, by item_id; see `immr.search.ranking.rank`.

        Args:
            candidates: N of them, by cosine, best first.
            first_ranks: (N,) see `signals`.
            head: see `signals`.
            features: by item_id.
            now: from which ages count.
            user: who searches. Without recent clicks, the result is that of the same ranker without `personal`.
        """
        signals_NF = signals(candidates, first_ranks, head, features, now, self.attributes)
        added_N = self.unit * self.trees.predict(signals_NF)
        if self.personal is not None and user is not None and user.items:
            signals_NP = personal_signals(candidates, features, user, self.attributes)
            added_N = added_N + self.personal.unit * self.personal.trees.predict(signals_NP)
        ids = (candidate.item_id for candidate in candidates)
        return dict(zip(ids, added_N.tolist(), strict=True))

    def write(self, folder: Path) -> None:
        """Write `ranker.json` into a version's folder."""
        fields: dict[str, Any] = {
            "format": _FORMAT,
            "attributes": dict(self.attributes),
            "ranking": asdict(self.ranking),
            "unit": self.unit,
            "trees": [asdict(tree) for tree in self.trees.trees],
        }
        if self.personal is not None:
            of_personal = [asdict(tree) for tree in self.personal.trees.trees]
            fields["personal"] = {"unit": self.personal.unit, "trees": of_personal}
        write_atomically(folder / RANKER, json.dumps(fields))

    @classmethod
    def read(cls, folder: Path) -> Ranker | None:
        """The ranker of the version in `folder`, or None if it ranks by hand-tuned weights.

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
            of_personal = fields.get("personal")
            return cls(
                attributes=fields["attributes"],
                ranking=RankingRecipe(**fields["ranking"]),
                unit=fields["unit"],
                trees=_trees(fields),
                personal=Personal(of_personal["unit"], _trees(of_personal)) if of_personal else None,
            )
        except (ValueError, TypeError, KeyError) as error:
            raise RankingError(f"{file} cannot be read ({error}): run `immr rank` again") from error


def _trees(fields: Mapping[str, Any]) -> Trees:
    return Trees([Tree(**tree) for tree in fields["trees"]])
