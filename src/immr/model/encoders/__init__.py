"""Pretrained encoders by name or folder, each with `stages()` for fine-tuning, and their ONNX graph."""
