"""`version.json`: the version that a Bento serves, and how its hits are ranked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from immr.errors import PackagingError
from immr.search.ranking import RankingRecipe
from immr.storage.atomic import write_atomically

VERSION_FOLDER = "version"
VERSION_FILE = "version.json"


@dataclass(frozen=True)
class VersionFile:
    """The version's identity, which its collection must match, and its ranking."""

    id: str
    dim: int
    preprocessing_hash: str
    manifest_hash: str
    ranking: RankingRecipe

    def write(self, folder: Path) -> None:
        """Write `version.json` into a version's folder."""
        write_atomically(folder / VERSION_FILE, json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> VersionFile:
        """Read `version.json` from a version's folder.

        Raises:
            PackagingError: The file is missing or has another format.
        """
        try:
            fields: dict[str, Any] = json.loads((folder / VERSION_FILE).read_text())
            fields["ranking"] = RankingRecipe(**fields["ranking"])
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PackagingError(
                f"{folder / VERSION_FILE} cannot be read ({error}): run `immr package` again"
            ) from error
