"""Contents as collections of a Qdrant server; the name that stays is an alias."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from immr.index.client import ClientEngine
from immr.index.documents import COLLECTION_PREFIX, SEPARATOR, Binding

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class Server:
    """A `Storage` on a Qdrant server, which many processes read and write at once."""

    def __init__(self, url: str, timeout_s: int, api_key: str | None = None) -> None:
        self._url = url
        self._timeout_s = timeout_s
        # as a header, since as `api_key` the client warns of http, which may be a cluster's own network
        self._headers = {"api-key": api_key} if api_key else None
        self.where = f"the Qdrant server {url}"

    def engine(self, content: str) -> ClientEngine:
        """A client; nothing is asked of the server yet."""
        return ClientEngine(self._connect(), content)

    def serving(self, collection: str, content: str) -> ClientEngine:
        """By its alias: a new content is searched as soon as it is published."""
        return ClientEngine(self._connect(), collection)

    def published(self, collection: str) -> str | None:
        """Ask for the aliases."""
        with self._client() as client:
            aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
        return aliases.get(collection)

    def binding(self, content: str) -> Binding | None:
        """Ask for the collection's metadata."""
        with self._client() as client:
            if not client.collection_exists(content):
                return None
            return Binding.from_metadata(client.get_collection(content).config.metadata)

    def bind(self, content: str, binding: Binding) -> None:
        """Write the collection's metadata."""
        with self._client() as client:
            client.update_collection(content, metadata=binding.as_metadata())

    def publish(self, collection: str, content: str) -> None:
        """Move the alias: old one away and new one in, in one request, which the server does atomically."""
        from qdrant_client import models

        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=content, alias_name=collection)
        )
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=collection))
        with self._client() as client:
            client.update_collection_aliases([delete, create] if self.published(collection) else [create])

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete the collections that begin with this one's name."""
        with self._client() as client:
            for content in _contents(client):
                if content.startswith(collection + SEPARATOR) and content != keep:
                    client.delete_collection(content)

    def collections(self) -> list[str]:
        """Names of contents, cut at the hash."""
        with self._client() as client:
            return sorted({content.rsplit(SEPARATOR, 1)[0] for content in _contents(client)})

    def remove(self, collection: str) -> bool:
        """Delete all contents; the alias goes with its collection."""
        self.discard_others(collection, keep="")
        return True

    def journal(self, collection: str) -> None:
        """A server takes changes at once."""

    def applied(self, content: str) -> int:
        """Not known here: whoever delivers knows."""
        return 0

    def note_applied(self, content: str, sequence: int) -> None:
        """Nothing to write down."""

    def _connect(self) -> QdrantClient:
        from qdrant_client import QdrantClient

        return QdrantClient(
            url=self._url, timeout=self._timeout_s, headers=self._headers, check_compatibility=False
        )

    @contextmanager
    def _client(self) -> Iterator[QdrantClient]:
        client = self._connect()
        try:
            yield client
        finally:
            client.close()


def _contents(client: QdrantClient) -> list[str]:
    names = [collection.name for collection in client.get_collections().collections]
    return [name for name in names if name.startswith(COLLECTION_PREFIX) and SEPARATOR in name]
