"""IMMR: image-to-multimodal retrieval, from click log to A/B-tested visual search."""

__version__ = "0.1.0"
