"""Document embeddings in Qdrant: one collection per model version, bound to it."""
