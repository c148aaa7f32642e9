"""How the towers learn: loop, sharded classifier, collectives, checkpoints, ONNX export."""
