"""What the rest of IMMR asks of a place where versions serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from immr.types import ModelVersion, Role


@dataclass(frozen=True)
class Deployment:
    """A version that serves, or is to serve, in a role."""

    role: Role
    version_id: str
    bento: str  # tag, "immr-search:immr-3"
    url: str


class Deployer(Protocol):
    """Declares what serves; asking twice for the same changes nothing."""

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """Let this version serve in this role, in place of the one before."""

    def current(self) -> Sequence[Deployment]:
        """What serves now, champion first."""

    def remove(self, role: Role) -> None:
        """Let nothing serve in this role."""
