"""Frozen features of pictures and texts, computed once and cached on disk."""
