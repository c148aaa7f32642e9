"""Pretrained image and text encoders, one family per file, looked up by name."""
