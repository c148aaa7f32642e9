"""Evaluation by kind of query: photos, words, both, and a part of a photo."""
