"""The port that the rest of IMMR deploys versions through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from immr.types import ModelVersion, Role


@dataclass(frozen=True)
class Deployment:
    """A version that is deployed in a role."""

    role: Role
    version_id: str
    bento: str  # tag, "immr-search:immr-3"
    url: str


class Deployer(Protocol):
    """Declares which version serves in which role. Every call is idempotent."""

    def apply(self, version: ModelVersion, bento: str, role: Role) -> Deployment:
        """Deploy a version in a role, replacing the version that has the role."""

    def current(self) -> Sequence[Deployment]:
        """What is deployed, champion first."""

    def remove(self, role: Role) -> None:
        """Remove the version that has this role, if there is one."""
