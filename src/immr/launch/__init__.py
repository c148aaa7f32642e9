"""Where training runs: `torchrun` on this machine, or a PyTorchJob or TrainJob on a cluster."""
