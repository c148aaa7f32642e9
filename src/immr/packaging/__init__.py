"""A registry version becomes a Bento; the only place that imports bentoml."""
