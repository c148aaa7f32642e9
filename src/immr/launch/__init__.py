"""Where training runs: `torchrun` on this machine, or a PyTorchJob on a cluster."""
