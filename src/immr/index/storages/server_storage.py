"""Contents as collections of a Qdrant server; an alias names the published one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from immr.index.binding import Binding
from immr.index.collection_names import collection_of, is_content
from immr.index.engines import connection
from immr.index.engines.client import ClientEngine
from immr.settings import without_credentials

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class ServerStorage:
    """A `Storage` on a Qdrant server, which any number of processes may use at once."""

    def __init__(self, url: str, timeout_s: float, api_key: str | None = None) -> None:
        self._url = url
        self._timeout_s = timeout_s
        # not as `api_key`: the client would warn about http, which is common within a cluster
        self._headers = {"api-key": api_key} if api_key else None
        self.where = f"the Qdrant server {without_credentials(url)}"
        self.suffix = ""

    def engine(self, content: str) -> ClientEngine:
        """A new client; it sends no request yet."""
        return ClientEngine(self._connect(), content)

    def serving(self, collection: str, content: str) -> ClientEngine:
        """Use the alias, so that a new content is searched as soon as it is published."""
        return ClientEngine(self._connect(searches=True), collection)

    def published(self, collection: str) -> str | None:
        """The content that the alias points to."""
        with self._client() as client:
            aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
        return aliases.get(collection)

    def binding(self, content: str) -> Binding | None:
        """Read the metadata of the collection."""
        with self._client() as client:
            if not client.collection_exists(content):
                return None
            return Binding.from_metadata(client.get_collection(content).config.metadata)

    def obstacle(self, content: str) -> str:
        """See `Storage.obstacle`: there is none on a server."""
        return ""

    def bind(self, content: str, binding: Binding) -> None:
        """Write the metadata of the collection."""
        with self._client() as client:
            client.update_collection(content, metadata=binding.as_metadata())

    def publish(self, collection: str, content: str) -> None:
        """Move the alias in one request, which the server executes atomically."""
        from qdrant_client import models

        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=content, alias_name=collection)
        )
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=collection))
        with self._client() as client:
            client.update_collection_aliases([delete, create] if self.published(collection) else [create])

    def discard_others(self, collection: str, keep: str) -> None:
        """Delete the collections of the other contents."""
        with self._client() as client:
            for content in _contents(client):
                if collection_of(content) == collection and content != keep:
                    client.delete_collection(content)

    def collections(self) -> list[str]:
        """The collections of all contents."""
        with self._client() as client:
            return sorted({collection_of(content) for content in _contents(client)})

    def remove(self, collection: str) -> bool:
        """Delete all contents; the server deletes the alias with them."""
        self.discard_others(collection, keep="")
        return True

    def journal(self, collection: str) -> None:
        """See `Storage.journal`: changes are applied directly."""

    def applied(self, content: str) -> int:
        """See `Storage.applied`: always 0, because only the delivering process knows."""
        return 0

    def note_applied(self, content: str, sequence: int) -> None:
        """See `Storage.note_applied`: does nothing."""

    def _connect(self, searches: bool = False) -> QdrantClient:
        return connection.connect(self._url, self._timeout_s, self._headers, searches)

    @contextmanager
    def _client(self) -> Iterator[QdrantClient]:
        client = self._connect()
        try:
            yield client
        finally:
            client.close()


def _contents(client: QdrantClient) -> list[str]:
    names = [collection.name for collection in client.get_collections().collections]
    return [name for name in names if is_content(name)]
