"""Training: the loop and its stages, the sharded classifier, checkpoints, ONNX export."""
