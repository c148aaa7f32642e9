"""Optimization: learning rates by step and by layer, and averaged weights."""
