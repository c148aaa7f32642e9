"""A client of the search service: `Client` and what it returns. Needs httpx and nothing else."""

from immr.client.answers import Answer, Facet, Hit, Member, ProposedRegion, Recorded
from immr.client.client import Client

__all__ = ["Answer", "Client", "Facet", "Hit", "Member", "ProposedRegion", "Recorded"]
