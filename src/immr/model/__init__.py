"""The two towers, readable on one device: encoders, fusion, preprocessing. No torch.distributed."""
