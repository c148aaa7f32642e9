"""The two towers, readable on one device: encoders, concept-aware fusion, preprocessing. No torch.distributed."""
