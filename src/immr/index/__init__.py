"""Document embeddings in Qdrant: one collection per model version, plus the outbox of catalogue changes."""
