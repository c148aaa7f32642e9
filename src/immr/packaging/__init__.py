"""Model versions as Bentos; no other package imports bentoml."""
