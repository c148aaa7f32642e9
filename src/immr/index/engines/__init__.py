"""Engines, each holding the points of one content: Qdrant Edge, or qdrant-client on a folder or a server."""
