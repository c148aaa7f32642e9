"""Atomic writes, content fingerprints and watched files."""
