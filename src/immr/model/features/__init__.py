"""Frozen features of pictures and texts, and the caches that keep them."""
